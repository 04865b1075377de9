"""Retention curves: how accuracy falls while more and more segments are hidden.

Accuracy is one number at one hidden fraction, and a score, the mean over the fractions of a curve; both over the images
that were asked about all of these. Source: Balasubramanian and Feizi, arXiv 2211.14646.
"""

from collections.abc import Sequence

import numpy as np

from maskrobust.lm_modules.reliance.arrays import BoolArray
from maskrobust.lm_modules.reliance.catalogue import Parameters, measure
from maskrobust.lm_modules.reliance.estimates.estimation import Columns, Statistic
from maskrobust.lm_modules.reliance.holes.curves import CurveFamily, CurveOrder, curve_condition
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.plan import ReliancePlan


def curve_accuracy(family: CurveFamily, order: CurveOrder, hidden_fractions: Sequence[float]) -> Statistic:
    """The mean accuracy over hidden fractions, and over the images asked at all of them.

    Args:
        family: segments of the curve.
        order: the order in which they are hidden.
        hidden_fractions: some of the curve's, at least one; the columns raise InputError where the outcomes lack one.
    """
    conditions = [curve_condition(family, order, fraction) for fraction in hidden_fractions]

    def columns(outcomes: Outcomes) -> Columns:
        curve = np.stack([outcomes.predictions_under(condition) for condition in conditions])
        known: BoolArray = np.all(curve >= 0, axis=0)
        right = (curve == outcomes.labels)[:, known].astype(np.float64)
        return Columns(outcomes.ids[known], outcomes.objects[known], right, int((~known).sum()))

    return Statistic(columns, lambda means: np.asarray(means.mean(axis=-1)))


def _curves(plan: ReliancePlan) -> list[dict[str, str | float]]:
    return [{"family": family, "order": order} for family in plan.curve_families for order in plan.curve_orders]


def _points(plan: ReliancePlan) -> Sequence[Parameters]:
    return [{**curve, "hidden_fraction": fraction} for curve in _curves(plan) for fraction in plan.curve_fractions]


@measure(
    name="curve_accuracy", title="Accuracy", definition="Accuracy.", group="curves", unit="fraction", goal="high",
    members=_points, by_seed=False,
)  # fmt: skip
def _point(family: CurveFamily, order: CurveOrder, hidden_fraction: float) -> Statistic:
    return curve_accuracy(family, order, [hidden_fraction])


@measure(
    name="curve_accuracy_score", title="Accuracy", definition="Accuracy. The mean over the curve.", group="curves",
    unit="fraction", goal="high", members=_curves, in_training=True, by_seed=False,
)  # fmt: skip
def _score(plan: ReliancePlan, family: CurveFamily, order: CurveOrder) -> Statistic:
    return curve_accuracy(family, order, plan.curve_fractions)
