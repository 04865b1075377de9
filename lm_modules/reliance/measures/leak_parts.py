"""The leak over parts of the images: by the object's fraction of the picture, and by its contact with the border."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from maskrobust.lm_modules.reliance.arrays import BoolArray
from maskrobust.lm_modules.reliance.catalogue import Parameters, measure, where_leak_controls
from maskrobust.lm_modules.reliance.estimation import Columns, Statistic, columns_of, difference_of_means
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.plan import ReliancePlan

Coverage = Literal["small", "medium", "large"]

Border = Literal["touched", "clear"]


def _coverages(plan: ReliancePlan) -> Sequence[Parameters]:
    return [{"coverage": coverage} for _ in where_leak_controls(plan) for coverage in get_args(Coverage)]


def _borders(plan: ReliancePlan) -> Sequence[Parameters]:
    return [{"border": border} for _ in where_leak_controls(plan) for border in get_args(Border)]


@measure(
    title="Objects: {coverage}",
    definition="The leak by coverage: over the thirds of the images whose objects take the smallest, a medium and the "
    "largest fraction of the picture.",
    group="leak",
    asked=_coverages,
    by_seed=False,
)
def leak_by_coverage(coverage: Coverage) -> Statistic:
    """The leak in [-1, 1], over one third of the images with a valid object, by the fraction of the object's pixels."""

    def columns(outcomes: Outcomes) -> Columns:
        valid, fractions = outcomes.object_valid, outcomes.object_fraction
        bounds = np.quantile(fractions[valid], [1 / 3, 2 / 3]) if valid.any() else np.zeros(2)
        return _leak_of(outcomes, np.searchsorted(bounds, fractions) == get_args(Coverage).index(coverage))

    return Statistic(columns, difference_of_means)


@measure(
    title="Border: {border}",
    definition="The leak by contact with the border: over objects that touch the border of the picture, which cuts "
    "their outline, and over those that do not.",
    group="leak",
    asked=_borders,
    by_seed=False,
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
