"""Negative control of the leak: a hole whose outline is that of another object."""

from maskrobust.lm_modules.reliance.catalogue import measure, where_leak_controls
from maskrobust.lm_modules.reliance.conditions import COVER
from maskrobust.lm_modules.reliance.estimation import Statistic, difference_of_means, right_answers


@measure(
    title="Cover (control)",
    definition="Negative control: accuracy behind the silhouette of another object, whatever its class, that covers "
    "this one, minus accuracy behind this one's circle; both hide as many pixels. The outline tells nothing about the "
    "class: it is zero unless the two holes differ in something else than the own outline.",
    group="leak",
    asked=where_leak_controls,
    by_seed=False,
)
def cover_leak() -> Statistic:
    """Mean of 1[right behind another silhouette] - 1[right behind the circle], in [-1, 1]; see `cover_holes`."""
    return Statistic(lambda outcomes: right_answers(outcomes, *COVER), difference_of_means)
