"""The leak against a margin: the object is hidden with so many pixels around it."""

from collections.abc import Sequence

from maskrobust.lm_modules.reliance.catalogue import Parameters, measure
from maskrobust.lm_modules.reliance.conditions import margin_condition
from maskrobust.lm_modules.reliance.estimation import Statistic, difference_of_means, right_answers
from maskrobust.lm_modules.reliance.plan import ReliancePlan


def _margins(plan: ReliancePlan) -> Sequence[Parameters]:
    return [{"margin": margin} for margin in plan.margins if plan.shapes]


@measure(
    title="Margin {margin:g} px",
    definition="Leak against a margin: the object is grown by so many pixels before it is hidden, along its outline or "
    "by its enclosing circle. A margin hides what an imprecise annotation leaves of the object, and blurs the outline.",
    group="leak",
    asked=_margins,
    compared=True,
    by_seed=False,
)
def margin_leak(margin: float) -> Statistic:
    """Mean of 1[right behind the grown silhouette] - 1[right behind its circle], in [-1, 1], over images with room.

    The grown object holds every pixel at most `margin` pixels from the object. With 0 it is the leak.

    Args:
        margin: one of the plan's `margins`; the columns raise InputError otherwise.
    """
    holes = margin_condition("silhouette", margin), margin_condition("circle", margin)
    return Statistic(lambda outcomes: right_answers(outcomes, *holes), difference_of_means)
