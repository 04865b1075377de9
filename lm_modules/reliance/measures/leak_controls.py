"""Controls of the leak: a negative control, margins around the object, parts of the images, another ring."""

from collections.abc import Sequence
from functools import partial
from typing import Literal, get_args

import numpy as np

from maskrobust.lm_modules.reliance.arrays import BoolArray
from maskrobust.lm_modules.reliance.catalogue import Parameters, measure, where_leak_controls
from maskrobust.lm_modules.reliance.estimates.estimation import (
    Columns,
    Statistic,
    columns_of,
    difference_of_means,
    right_answers,
)
from maskrobust.lm_modules.reliance.holes.conditions import COVER, OTHER_RING, margin_condition
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.plan import ReliancePlan

_leak = partial(measure, group="leak", by_seed=False)


@_leak(
    title="Cover (control)",
    definition="Negative control. Accuracy behind the silhouette of another object that covers this one, whatever its "
    "class, minus accuracy behind this one's circle, with as many pixels hidden. The outline tells nothing "
    "about the class, so the value is 0 unless the two holes differ in something else.",
    members=where_leak_controls,
)
def cover_leak() -> Statistic:
    """Mean of 1[right behind another silhouette] - 1[right behind the circle], in [-1, 1]; see `cover_holes`."""
    return Statistic(lambda outcomes: right_answers(outcomes, *COVER), difference_of_means)


def _margins(plan: ReliancePlan) -> Sequence[Parameters]:
    return [{"margin": margin} for margin in plan.margins if plan.shapes]


@_leak(
    title="Margin {margin:g} px",
    definition="The leak if the object is grown by a margin before it is hidden, along its outline or by its "
    "enclosing circle. A margin hides what an imprecise annotation leaves of the object, and blurs the "
    "outline.",
    members=_margins,
    compared=True,
)
def margin_leak(margin: float) -> Statistic:
    """Mean of 1[right behind the grown silhouette] - 1[right behind its circle], in [-1, 1], over images with room.

    The grown object holds every pixel at most `margin` pixels from the object. With 0 it is the leak.

    Args:
        margin: one of the plan's `margins`; the columns raise InputError otherwise.
    """
    holes = margin_condition("silhouette", margin), margin_condition("circle", margin)
    return Statistic(lambda outcomes: right_answers(outcomes, *holes), difference_of_means)


Coverage = Literal["small", "medium", "large"]

Border = Literal["touched", "clear"]


def _coverages(plan: ReliancePlan) -> Sequence[Parameters]:
    return [{"coverage": coverage} for _ in where_leak_controls(plan) for coverage in get_args(Coverage)]


def _borders(plan: ReliancePlan) -> Sequence[Parameters]:
    return [{"border": border} for _ in where_leak_controls(plan) for border in get_args(Border)]


@_leak(
    title="Objects: {coverage}",
    definition="The leak over the thirds of the images whose objects take the smallest, a medium and the largest "
    "fraction of the picture.",
    members=_coverages,
)
def leak_by_coverage(coverage: Coverage) -> Statistic:
    """The leak in [-1, 1], over one third of the images with a valid object, by the fraction of the object's pixels."""

    def columns(outcomes: Outcomes) -> Columns:
        valid, fractions = outcomes.object_valid, outcomes.object_fraction
        bounds = np.quantile(fractions[valid], [1 / 3, 2 / 3]) if valid.any() else np.zeros(2)
        return _leak_of(outcomes, np.searchsorted(bounds, fractions) == get_args(Coverage).index(coverage))

    return Statistic(columns, difference_of_means)


@_leak(
    title="Border: {border}",
    definition="The leak over objects that touch the border of the picture, which cuts their outline, and over those "
    "that do not.",
    members=_borders,
)
def leak_by_border(border: Border) -> Statistic:
    """The leak in [-1, 1], over valid objects that touch the border of the picture, or over those that do not."""
    return Statistic(
        lambda outcomes: _leak_of(outcomes, outcomes.at_border == (border == "touched")), difference_of_means
    )


def _leak_of(outcomes: Outcomes, part: BoolArray) -> Columns:
    """Whether predictions behind silhouette and circle are right, over the valid images of a part (N,)."""
    behind = (outcomes.predictions_under(hole) == outcomes.labels for hole in ("silhouette", "circle"))
    return columns_of(outcomes, outcomes.object_valid & part, *behind)


@_leak(
    title="Other ring",
    definition="The leak in images whose ring between outline and circle is drawn from outside the circle, under both "
    "holes. What only the silhouette's hole shows is then its outline alone, and no content.",
    members=where_leak_controls,
    compared=True,
)
def other_ring_leak() -> Statistic:
    """The leak in [-1, 1], with both holes cut into `conditions.with_other_ring` of the images."""
    return Statistic(lambda outcomes: right_answers(outcomes, *OTHER_RING), difference_of_means)
