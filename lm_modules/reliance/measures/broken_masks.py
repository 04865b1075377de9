"""Object against broken mask (measure 3), the paper's test: Balasubramanian and Feizi, arXiv 2211.14646."""

import numpy as np

from maskrobust.lm_modules.reliance.arrays import FloatArray
from maskrobust.lm_modules.reliance.catalogue import measure, where_named
from maskrobust.lm_modules.reliance.estimates.estimation import Columns, Statistic, right_answers
from maskrobust.lm_modules.reliance.outcomes import Outcomes

_CLEAN, _WHOLE, _BROKEN = range(3)


@measure(
    title="Intact over broken mask",
    definition="Accuracy with the object hidden by its mask, divided by accuracy with that mask's quadrants swapped, "
    "over images recognised with nothing hidden (Balasubramanian and Feizi, ICCV 2023, "
    "arxiv.org/abs/2211.14646). The broken mask often leaves the object visible, so the ratio compares "
    "networks, and says nothing on its own.",
    group="outline",
    goal="low",
    members=where_named("whole_over_broken"),
    compared=True,
)
def whole_over_broken() -> Statistic:
    """Measure 3, the paper's test: accuracy behind the whole mask over that behind the broken one, at least 0.

    Both over images with a valid object that are right when nothing is hidden. The broken mask hides equally many
    pixels, but often leaves the object visible, so that the quotient compares networks, and is no measure of shape on
    its own.
    """
    return _quotient(_WHOLE, _BROKEN, "accuracy behind the broken mask")


@measure(
    title="Still right, intact mask",
    definition="Of the images that the network recognises with nothing hidden, the fraction that it still recognises "
    "when the object alone is hidden along its outline. In differences each network is taken over its own images.",
    group="accuracy",
    unit="fraction",
    goal="low",
    members=where_named("whole_over_broken"),
    compared=True,
)
def whole_mask_accuracy() -> Statistic:
    """Measure 3: accuracy with the object hidden along its outline, in [0, 1], over images that are right unhidden."""
    return _quotient(_WHOLE, _CLEAN, "clean accuracy")


@measure(
    title="Still right, broken mask",
    definition="The same with the quadrants of the object's mask swapped before it is hidden.",
    group="accuracy",
    unit="fraction",
    goal="high",
    members=where_named("whole_over_broken"),
    compared=True,
)
def broken_mask_accuracy() -> Statistic:
    """Measure 3: accuracy with the broken mask hidden, in [0, 1], over images that are right when nothing is hidden."""
    return _quotient(_BROKEN, _CLEAN, "clean accuracy")


def _quotient(numerator: int, denominator: int, denominator_name: str) -> Statistic:
    """Quotient of two of: right unhidden, also behind the whole mask, also behind the broken mask.

    Where a single resample's denominator is 0 it counts as 1e-9.
    """

    def columns(outcomes: Outcomes) -> Columns:
        columns = right_answers(outcomes, "clean", "whole", "broken")
        return columns._replace(values=columns.values * columns.values[_CLEAN])

    def combine(means: FloatArray) -> FloatArray:
        quotient: FloatArray = means[..., numerator] / np.maximum(means[..., denominator], 1e-9)
        return quotient

    return Statistic(columns, combine, lambda means: means[..., denominator], denominator_name, condition=_CLEAN)
