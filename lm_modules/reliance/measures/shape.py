"""Leak, swap pull and used share: what the outline of a hole does to predictions."""

from functools import partial

import numpy as np

from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.arrays import BoolArray, FloatArray, IntArray
from maskrobust.lm_modules.reliance.catalogue import measure, where_shapes
from maskrobust.lm_modules.reliance.estimates.estimation import Columns, Statistic, columns_of, right_answers
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.probe import ProbeOutcomes


def _leak(means: FloatArray) -> FloatArray:
    """The leak from accuracies behind silhouette and circle, (..., 2 or more) -> (...)."""
    leak: FloatArray = means[..., 0] - means[..., 1]
    return leak


def _share(means: FloatArray) -> FloatArray:
    """From accuracies behind silhouette and circle, the probe's, and the majority's fraction, (..., 4) -> (...).

    A denominator of 0 or less counts as 1e-9, which only widens an interval over resamples.
    """
    return _leak(means) / np.maximum(_told(means), 1e-9)


def _told(means: FloatArray) -> FloatArray:
    """What outlines can tell: the probe's accuracy minus the majority's fraction, (..., 4) -> (...)."""
    told: FloatArray = means[..., 2] - means[..., 3]
    return told


def _is_majority(labels: IntArray) -> BoolArray:
    """Whether each label is the most frequent one, the first one on ties: (N,)."""
    majority: BoolArray = labels == np.bincount(labels, minlength=1).argmax()
    return majority


_outline = partial(measure, group="outline", members=where_shapes)


@_outline(
    title="Leak",
    definition="Silhouette accuracy minus circle accuracy, paired image by image. Both holes remove the whole object, "
    "and only the first leaves its outline. Below 0 the outline misleads the network.",
    in_training=True,
    compared=True,
)
def silhouette_leak() -> Statistic:
    """Mean of 1[right behind the silhouette] - 1[right behind the circle], in [-1, 1]."""
    return Statistic(lambda outcomes: right_answers(outcomes, "silhouette", "circle"), _leak)


@measure(
    title="Swap pull",
    definition="Fraction of images for which a network predicts the class of another object j behind a hole in the "
    "shape of j, minus that for which it predicts the same class behind a hole of like area in the shape "
    "of a third object k. The value is the mean over exchanging j and k. Only the shape of the hole "
    "changes, so this is its causal effect. The interval is over images, and takes the outlines as given.",
    group="outline",
    members=lambda plan: where_shapes(plan) if plan.swap_pull else (),
    in_training=True,
    compared=True,
)
def swap_pull() -> Statistic:
    """How far a prediction follows the shape that is cut out of an unrelated image, in [-1, 1].

    The mean of 1/2 (1[f_j = y_j] - 1[f_k = y_j] + 1[f_k = y_k] - 1[f_j = y_k]), with f_j the prediction behind object
    j's silhouette. It is the average of P[f_j = y_j] - P[f_k = y_j] and the same with j and k exchanged: where j and k
    are exchangeable, of equal expectation as either and of less variance, from the same two forward passes. Its
    interval is over images, and takes the silhouettes that were swapped in as given.
    """
    return Statistic(_columns)


def _columns(outcomes: Outcomes) -> Columns:
    behind_j, behind_k = outcomes.predictions_under("swap_j"), outcomes.predictions_under("swap_k")
    label_j, label_k = outcomes.swap_label_j, outcomes.swap_label_k
    towards_j = (behind_j == label_j).astype(np.float64) - (behind_k == label_j)
    towards_k = (behind_k == label_k).astype(np.float64) - (behind_j == label_k)
    return columns_of(outcomes, outcomes.swap_valid, (towards_j + towards_k) / 2)


@_outline(
    title="Used share",
    definition="The leak divided by what outlines can tell, which is the accuracy of the mask-only probe (a network "
    "that sees nothing but outlines) minus the fraction of the most frequent class. At 0 the outline adds "
    "no accuracy, at 1 it adds as much as for the probe, and below 0 it misleads. Reliance on the outline "
    "is its magnitude, |used share|.",
    in_training=True,
    compared=True,
)
def used_share(probe: ProbeOutcomes) -> Statistic:
    """The headline: leak / (probe accuracy - fraction of the majority class).

    0: the network does not read outlines; 1: as well as a network that sees nothing else. The probe's accuracy and the
    fraction of the class that is most frequent among the counted labels are averaged over the images of the leak, and
    resampled with it. Undefined where the outlines hold nothing: where the lower bound of the denominator is not above
    0.

    Args:
        probe: the mask-only probe's outcomes on the same images; the columns raise InputError where it was not asked
            about one.
    """

    def columns(outcomes: Outcomes) -> Columns:
        leak = right_answers(outcomes, "silhouette", "circle")
        labels = outcomes.labels[outcomes.object_valid]
        right = _probe_correct(probe, leak.ids)
        return leak._replace(values=np.vstack([leak.values, right, _is_majority(labels)]))

    name = "probe accuracy minus majority fraction"
    return Statistic(columns, _share, _told, name)


@measure(
    title="Reliance on the outline, |used share|",
    definition="Magnitude of the used share, because a network that an outline misleads relies on it, too. It is "
    "given only as a difference of two networks. On its own, noise around 0 would lift it above 0.",
    group="outline",
    goal="low",
    members=lambda _plan: (),
)
def reliance(probe: ProbeOutcomes) -> Statistic:
    """The statistic whose magnitude `compare_magnitudes` compares: the used share."""
    return used_share(probe)


@_outline(
    title="Probe accuracy",
    definition="Accuracy of the mask-only probe, a network that sees nothing but outlines.",
    unit="fraction",
    goal="none",
    in_training=True,
    of_data=True,
)
def probe_accuracy(probe: ProbeOutcomes) -> Statistic:
    """Accuracy of the mask-only probe, in [0, 1], over images with a valid object."""

    def columns(outcomes: Outcomes) -> Columns:
        valid = outcomes.object_valid
        ids = outcomes.ids[valid]
        right = _probe_correct(probe, ids)[np.newaxis]
        return Columns(ids, outcomes.objects[valid], right, int((~valid).sum()), yes_or_no=True)

    return Statistic(columns)


@_outline(
    title="Majority class",
    definition="Fraction of the most frequent class among images with an object mask that the measures can use. This "
    "is the accuracy of always naming that class.",
    unit="fraction",
    goal="none",
    of_data=True,
)
def majority_fraction() -> Statistic:
    """Fraction of the most frequent class among images with a valid object, in [0, 1]."""

    def columns(outcomes: Outcomes) -> Columns:
        valid = outcomes.object_valid
        majority = np.zeros_like(valid)
        majority[valid] = _is_majority(outcomes.labels[valid])
        return columns_of(outcomes, valid, majority)

    return Statistic(columns)


def _probe_correct(probe: ProbeOutcomes, ids: IntArray) -> FloatArray:
    """Whether the probe reads each of `ids` rightly, (N,) float64 in {0, 1}."""
    position = np.searchsorted(probe.ids, ids).clip(max=max(len(probe.ids) - 1, 0))
    missing = ids if len(probe.ids) == 0 else ids[probe.ids[position] != ids]
    if missing.size:
        raise InputError(
            f"the probe must have been asked about every image of the leak, but lacks {missing.size} of them, "
            f"the first with id {missing[0]}; run probe_outcomes on the same split."
        )
    return np.asarray(probe.predictions[position] == probe.labels[position], dtype=np.float64)
