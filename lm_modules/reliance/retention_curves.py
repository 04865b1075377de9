"""Retention curves (measure 5): what is left of the predictions while more and more segments are hidden.

Each metric is a figure at one hidden fraction, and a score, the mean over the fractions of a curve; both over the
images that were asked about all of these. Source: Balasubramanian and Feizi, arXiv 2211.14646.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.arrays import BoolArray, FloatArray, IntArray
from maskrobust.lm_modules.reliance.curves import CurveFamily, CurveOrder, curve_condition
from maskrobust.lm_modules.reliance.measures import Columns, Measure
from maskrobust.lm_modules.reliance.outcomes import Outcomes


class _Answers(NamedTuple):
    """Of the M images that count: predictions at one hidden fraction and with nothing hidden, and labels, each (M,)."""

    predictions: IntArray
    clean: IntArray
    labels: IntArray
    num_classes: int


_Terms = Callable[[_Answers], FloatArray | BoolArray]
"""What a metric averages over the images, (M,)."""


def curve_accuracy(family: CurveFamily, order: CurveOrder, hidden_fraction: float) -> Measure:
    """Accuracy at one point of a curve, in [0, 1].

    Args:
        family: segments of the curve.
        order: in which they are hidden.
        hidden_fraction: one of the curve's; the columns raise InputError where the outcomes lack its condition.
    """
    return _curve("accuracy", family, order, (hidden_fraction,), _right)


def curve_accuracy_score(family: CurveFamily, order: CurveOrder, hidden_fractions: Sequence[float]) -> Measure:
    """Mean accuracy over the points of a curve, in [0, 1].

    Args:
        family: segments of the curve.
        order: in which they are hidden.
        hidden_fractions: the curve's, at least one.

    Raises:
        InputError: there is no fraction.
    """
    return _curve("accuracy", family, order, hidden_fractions, _right)


def curve_unchanged(family: CurveFamily, order: CurveOrder, hidden_fraction: float) -> Measure:
    """Share of predictions that are what they are with nothing hidden, in [0, 1]; see `curve_accuracy`."""
    return _curve("unchanged predictions", family, order, (hidden_fraction,), _unchanged)


def curve_unchanged_score(family: CurveFamily, order: CurveOrder, hidden_fractions: Sequence[float]) -> Measure:
    """Mean share of unchanged predictions over the points of a curve, in [0, 1]; see `curve_accuracy_score`."""
    return _curve("unchanged predictions", family, order, hidden_fractions, _unchanged)


def curve_class_entropy(family: CurveFamily, order: CurveOrder, hidden_fraction: float) -> Measure:
    """Entropy of the histogram of predictions, -sum_k p_k ln p_k nats, in [0, ln K]; see `curve_accuracy`.

    Low where images are taken for few classes. It is the mean of -ln p over the images, p being the share of those that
    are taken for the same class, and these terms are what the bootstrap resamples: its interval then has the variance
    of an entropy to first order (Basharin, Theory of Probability and its Applications 1959) and lies around the figure,
    where resampled histograms are all less even than the one they are drawn from. Over several runs it is the mean of
    their entropies.
    """
    return _curve("class entropy", family, order, (hidden_fraction,), _surprise)


def curve_class_entropy_score(family: CurveFamily, order: CurveOrder, hidden_fractions: Sequence[float]) -> Measure:
    """Mean class entropy over the points of a curve, in [0, ln K] nats; see `curve_class_entropy`."""
    return _curve("class entropy", family, order, hidden_fractions, _surprise)


def curve_similarity(family: CurveFamily, order: CurveOrder, hidden_fraction: float, similarity: FloatArray) -> Measure:
    """Mean similarity of prediction and label, in [0, 1]; see `curve_accuracy`.

    Args:
        family: segments of the curve.
        order: in which they are hidden.
        hidden_fraction: one of the curve's.
        similarity: (K, K) in [0, 1] of the classes; see `reliance.wordnet.path_similarity`. The columns
            raise InputError where K is not the outcomes' number of classes.
    """
    return _curve("similarity", family, order, (hidden_fraction,), _similar(similarity))


def curve_similarity_score(
    family: CurveFamily, order: CurveOrder, hidden_fractions: Sequence[float], similarity: FloatArray
) -> Measure:
    """Mean of `curve_similarity` over the points of a curve, in [0, 1]; see `curve_accuracy_score`."""
    return _curve("similarity", family, order, hidden_fractions, _similar(similarity))


def _curve(
    metric: str, family: CurveFamily, order: CurveOrder, hidden_fractions: Sequence[float], terms: _Terms
) -> Measure:
    """The mean over hidden fractions, and over the images asked at all of them, of a metric's terms."""
    if len(hidden_fractions) == 0:
        raise InputError("a retention score needs at least one hidden fraction, got none; give those of the curve.")
    conditions = [curve_condition(family, order, fraction) for fraction in hidden_fractions]

    def columns(outcomes: Outcomes) -> Columns:
        curve = np.stack([outcomes.behind(condition) for condition in conditions])
        asked: BoolArray = np.all(curve >= 0, axis=0)
        clean, labels = outcomes.behind("clean")[asked], outcomes.labels[asked]
        values = [terms(_Answers(each[asked], clean, labels, outcomes.num_classes)) for each in curve]
        return Columns(outcomes.ids[asked], np.stack(values).astype(np.float64), int((~asked).sum()))

    where = f"hidden fraction {hidden_fractions[0]:g}" if len(conditions) == 1 else "mean over the curve"
    name = f"{metric}, {family}, {order.replace('_', ' ')}, {where}"
    return Measure(name, columns, lambda means: np.asarray(means.mean(axis=-1)))


def _right(answers: _Answers) -> BoolArray:
    right: BoolArray = answers.predictions == answers.labels
    return right


def _unchanged(answers: _Answers) -> BoolArray:
    unchanged: BoolArray = answers.predictions == answers.clean
    return unchanged


def _surprise(answers: _Answers) -> FloatArray:
    """-ln of the share of images that are taken for the class of each; their mean is the entropy."""
    counts = np.bincount(answers.predictions, minlength=answers.num_classes)
    surprise: FloatArray = np.log(len(answers.predictions) / counts[answers.predictions])
    return surprise


def _similar(similarity: FloatArray) -> _Terms:
    def terms(answers: _Answers) -> FloatArray:
        expected = (answers.num_classes, answers.num_classes)
        if similarity.shape != expected:
            raise InputError(
                f"similarity must be {expected}, one row and column for each class, got {similarity.shape}; compute it "
                "for the classes of these outcomes, in their order."
            )
        return similarity[answers.predictions, answers.labels]

    return terms
