"""Retention curves: what is left of the predictions while more and more segments are hidden.

Each metric is one number at one hidden fraction, and a score, the mean over the fractions of a curve; both over the
images that were asked about all of these. Source: Balasubramanian and Feizi, arXiv 2211.14646.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.arrays import BoolArray, FloatArray, IntArray
from maskrobust.lm_modules.reliance.catalogue import Goal, Parameters, Unit, measure
from maskrobust.lm_modules.reliance.estimates.estimation import Columns, Statistic
from maskrobust.lm_modules.reliance.holes.curves import CurveFamily, CurveOrder, curve_condition
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.plan import ReliancePlan

Terms = Callable[[IntArray, IntArray, IntArray, int], FloatArray | BoolArray]
"""(predictions, those with nothing hidden, labels, each (M,), number of classes) -> what is averaged, (M,)."""


class CurveMetric(NamedTuple):
    """What is looked at along a curve.

    Attributes:
        title: how headings call it.
        definition: its definition in one sentence.
        unit: unit of its values.
        goal: which values are wished for.
        terms: what it averages over the images, (M,).
    """

    title: str
    definition: str
    unit: Unit
    goal: Goal
    terms: Terms


def curve_statistic(
    metric: str, family: CurveFamily, order: CurveOrder, hidden_fractions: Sequence[float]
) -> Statistic:
    """The mean over hidden fractions, and over the images asked at all of them, of a metric.

    Args:
        metric: the metric, one of `CURVE_METRICS`.
        family: segments of the curve.
        order: the order in which they are hidden.
        hidden_fractions: some of the curve's, at least one; the columns raise InputError where the outcomes lack one.

    Raises:
        InputError: there is no fraction.
    """
    if len(hidden_fractions) == 0:
        raise InputError("a retention score needs at least one hidden fraction, got none; give those of the curve.")
    conditions = [curve_condition(family, order, fraction) for fraction in hidden_fractions]
    terms = CURVE_METRICS[metric].terms

    def columns(outcomes: Outcomes) -> Columns:
        curve = np.stack([outcomes.predictions_under(condition) for condition in conditions])
        known: BoolArray = np.all(curve >= 0, axis=0)
        clean, labels = outcomes.predictions_under("clean")[known], outcomes.labels[known]
        values = [terms(each[known], clean, labels, outcomes.num_classes) for each in curve]
        counted = np.stack(values).astype(np.float64)
        return Columns(outcomes.ids[known], outcomes.objects[known], counted, int((~known).sum()))

    return Statistic(columns, lambda means: np.asarray(means.mean(axis=-1)))


def _surprise(predictions: IntArray, _clean: IntArray, _labels: IntArray, num_classes: int) -> FloatArray:
    """-ln of the fraction of images that are taken for the class of each; their mean is the entropy in nats.

    The bootstrap resamples these terms: its interval then has the variance of an entropy to first order (Basharin,
    Theory of Probability and its Applications 1959) and lies around the value, where resampled histograms are all less
    even than the one they are drawn from. Over several runs the value is the mean of their entropies.
    """
    counts = np.bincount(predictions, minlength=num_classes)
    surprise: FloatArray = np.log(len(predictions) / counts[predictions])
    return surprise


CURVE_METRICS: dict[str, CurveMetric] = {
    "accuracy": CurveMetric(
        "Accuracy", "Accuracy.", "fraction", "high", lambda answers, _clean, labels, _: answers == labels
    ),
    "unchanged": CurveMetric(
        "Unchanged predictions",
        "Fraction of predictions equal to those with nothing hidden.",
        "fraction",
        "high",
        lambda answers, clean, *_: answers == clean,
    ),
    "class_entropy": CurveMetric(
        "Class entropy (nats)",
        "Entropy of the histogram of predictions, which is low if a network falls back to few classes.",
        "nats",
        "high",
        _surprise,
    ),
}
"""The metrics of curves, by name."""


def _curves(plan: ReliancePlan) -> list[dict[str, str | float]]:
    return [{"family": family, "order": order} for family in plan.curve_families for order in plan.curve_orders]


def _points(plan: ReliancePlan) -> Sequence[Parameters]:
    return [{**curve, "hidden_fraction": fraction} for curve in _curves(plan) for fraction in plan.curve_fractions]


def _enter(metric: str) -> None:
    title, definition, unit, goal, _ = CURVE_METRICS[metric]

    @measure(
        name=f"curve_{metric}", title=title, definition=definition, group="curves", unit=unit, goal=goal,
        members=_points, by_seed=False,
    )  # fmt: skip
    def point(family: CurveFamily, order: CurveOrder, hidden_fraction: float) -> Statistic:
        return curve_statistic(metric, family, order, [hidden_fraction])

    @measure(
        name=f"curve_{metric}_score", title=title, definition=f"{definition} The mean over the curve.", group="curves",
        unit=unit, goal=goal, members=_curves, in_training=metric == "accuracy", by_seed=False,
    )  # fmt: skip
    def score(plan: ReliancePlan, family: CurveFamily, order: CurveOrder) -> Statistic:
        return curve_statistic(metric, family, order, plan.curve_fractions)


for _metric in CURVE_METRICS:
    _enter(_metric)
