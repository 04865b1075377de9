"""Measures of shape reliance and retention: per-image columns, and a smooth function of their means.

In this form one definition serves the figure of one run, its bootstrap over images, the hierarchical one over seeds and
the difference between two arms; see `maskrobust.lm_modules.reliance.estimation`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.arrays import BoolArray, FloatArray, IntArray
from maskrobust.lm_modules.reliance.conditions import retention_condition
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.probe import ProbeOutcomes


class Columns(NamedTuple):
    """What a measure averages.

    Attributes:
        ids: (N,) int64 ids of the images that count.
        values: (C, N) float64, one row for each quantity.
        left_out: number of images that do not count.
    """

    ids: IntArray
    values: FloatArray
    left_out: int


Combine = Callable[[FloatArray], FloatArray]
"""Column means (..., C) -> figure (...)."""


@dataclass(frozen=True)
class Measure:
    """A figure that is a smooth function of means over images.

    Attributes:
        name: as it appears in reports.
        columns: the quantities to average over images.
        combine: the figure, from the means of the columns.
        denominator: a quantity that the figure divides by. The figure is undefined unless the lower bound of this one
            is above 0. None where nothing is divided by.
        denominator_name: says in words what the denominator is.
        condition: index of the column of zeros and ones that says which images the figure is over; None for all.
    """

    name: str
    columns: Callable[[Outcomes], Columns]
    combine: Combine
    denominator: Combine | None = None
    denominator_name: str = ""
    condition: int | None = None


def right_answers(outcomes: Outcomes, *conditions: str) -> Columns:
    """Whether predictions are right under each condition, (C, N) in {0, 1}, over the images asked under all of them.

    Raises:
        InputError: the outcomes lack a condition.
    """
    predictions = np.stack([outcomes.behind(condition) for condition in conditions])
    asked: BoolArray = np.all(predictions >= 0, axis=0)
    return columns_of(outcomes, asked, *(predictions == outcomes.labels))


def columns_of(outcomes: Outcomes, counted: BoolArray, *rows: FloatArray | BoolArray) -> Columns:
    """Rows (N,) of quantities, over the images that are `counted` (N,) alone."""
    values = np.stack(rows).astype(np.float64)[:, counted]
    return Columns(outcomes.ids[counted], values, int((~counted).sum()))


def clean_accuracy() -> Measure:
    """Accuracy with nothing hidden, in [0, 1], over all images."""
    return Measure("clean accuracy", lambda outcomes: right_answers(outcomes, "clean"), _first)


def silhouette_accuracy() -> Measure:
    """Accuracy with the object hidden along its outline, in [0, 1], over images with a valid object."""
    return Measure("silhouette accuracy", lambda outcomes: right_answers(outcomes, "silhouette"), _first)


def circle_accuracy() -> Measure:
    """Accuracy with the object's enclosing circle hidden, in [0, 1], over images with a valid object."""
    return Measure("circle accuracy", lambda outcomes: right_answers(outcomes, "circle"), _first)


def silhouette_leak() -> Measure:
    """Measure 1: mean of 1[right behind the silhouette] - 1[right behind the circle], in [-1, 1]."""
    return Measure("silhouette leak", _leak_columns, lambda means: means[..., 0] - means[..., 1])


def swap_pull() -> Measure:
    """Measure 2: how far a prediction follows the shape that is cut out of an unrelated image, in [-1, 1].

    The mean of 1/2 (1[f_j = y_j] - 1[f_k = y_j] + 1[f_k = y_k] - 1[f_j = y_k]), with f_j the prediction behind object
    j's silhouette. It is the average of P[f_j = y_j] - P[f_k = y_j] and the same with j and k exchanged: where j and k
    are exchangeable, of equal expectation as either and of less variance, from the same two forward passes. Its
    interval is over images, and takes the silhouettes that were swapped in as given.
    """
    return Measure("swap pull", _pull_columns, _first)


def whole_mask_accuracy() -> Measure:
    """Measure 3: accuracy with the object hidden along its outline, in [0, 1], over images that are right unhidden."""
    return _mask_measure("whole mask accuracy", 1, 0, "clean accuracy")


def broken_mask_accuracy() -> Measure:
    """Measure 3: accuracy with the broken mask hidden, in [0, 1], over images that are right when nothing is hidden."""
    return _mask_measure("broken mask accuracy", 2, 0, "clean accuracy")


def whole_over_broken() -> Measure:
    """Measure 3, the paper's test: accuracy behind the whole mask over that behind the broken one, at least 0.

    Both over images with a valid object that are right when nothing is hidden (Balasubramanian and Feizi, arXiv
    2211.14646). The broken mask hides equally many pixels, but often leaves the object visible, so that the quotient
    compares networks, and is no measure of shape on its own.
    """
    return _mask_measure("whole over broken", 1, 2, "accuracy behind the broken mask")


def used_share(probe: ProbeOutcomes) -> Measure:
    """Measure 4, the headline: leak / (probe accuracy - share of the majority class).

    0: the network does not read outlines; 1: as well as a network that sees nothing else. The probe's accuracy and the
    share of the class that is most frequent among the counted labels are averaged over the images of the leak, and
    resampled with it. Undefined where the outlines hold nothing: where the lower bound of the denominator is not above
    0. Should a single resample's denominator be 0 or less, it counts as 1e-9, which only widens the interval.

    Args:
        probe: the mask-only probe's outcomes on the same images.

    Returns:
        The measure; its columns raise InputError where the probe was not asked about an image.
    """

    def columns(outcomes: Outcomes) -> Columns:
        leak = _leak_columns(outcomes)
        labels = outcomes.labels[outcomes.object_valid]
        majority = np.bincount(labels, minlength=1).argmax()
        right = _probe_correct(probe, leak.ids)
        return leak._replace(values=np.vstack([leak.values, right, labels == majority]))

    def denominator(means: FloatArray) -> FloatArray:
        return means[..., 2] - means[..., 3]

    def combine(means: FloatArray) -> FloatArray:
        return (means[..., 0] - means[..., 1]) / np.maximum(denominator(means), 1e-9)

    return Measure("used share", columns, combine, denominator, "probe accuracy minus majority share")


def probe_accuracy(probe: ProbeOutcomes) -> Measure:
    """Accuracy of the mask-only probe, in [0, 1], over images with a valid object."""

    def columns(outcomes: Outcomes) -> Columns:
        ids = outcomes.ids[outcomes.object_valid]
        return Columns(ids, _probe_correct(probe, ids)[np.newaxis], len(outcomes) - len(ids))

    return Measure("probe accuracy", columns, _first)


def retention(hidden_fraction: float) -> Measure:
    """Measure 5: accuracy with a share of the patches hidden at random, in [0, 1], over all images.

    Args:
        hidden_fraction: one of the plan's `hidden_fractions`; the columns raise InputError otherwise.
    """
    return Measure(
        f"accuracy at hidden fraction {hidden_fraction:g}",
        lambda outcomes: right_answers(outcomes, retention_condition(hidden_fraction)),
        _first,
    )


def hidden_pixel_sensitivity(outcomes: Outcomes) -> float:
    """Measure 8: the largest change of any logit, over images with a valid object, when hidden pixels are redrawn.

    Returns:
        At least 0, in units of a logit; NaN where no image has a valid object.
    """
    changes = outcomes.sensitivity[outcomes.object_valid]
    return float(changes.max()) if changes.size else float("nan")


def _leak_columns(outcomes: Outcomes) -> Columns:
    return right_answers(outcomes, "silhouette", "circle")


def _mask_measure(name: str, numerator: int, denominator: int, denominator_name: str) -> Measure:
    """Quotient of two of: right unhidden (0), also behind the whole mask (1), also behind the broken mask (2).

    Where a single resample's denominator is 0 it counts as 1e-9.
    """

    def columns(outcomes: Outcomes) -> Columns:
        asked = right_answers(outcomes, "clean", "whole", "broken")
        return asked._replace(values=asked.values * asked.values[0])

    def combine(means: FloatArray) -> FloatArray:
        quotient: FloatArray = means[..., numerator] / np.maximum(means[..., denominator], 1e-9)
        return quotient

    return Measure(name, columns, combine, lambda means: means[..., denominator], denominator_name, condition=0)


def _pull_columns(outcomes: Outcomes) -> Columns:
    behind_j, behind_k = outcomes.behind("swap_j"), outcomes.behind("swap_k")
    towards_j = _agreement(behind_j, outcomes.swap_label_j) - _agreement(behind_k, outcomes.swap_label_j)
    towards_k = _agreement(behind_k, outcomes.swap_label_k) - _agreement(behind_j, outcomes.swap_label_k)
    return columns_of(outcomes, outcomes.swap_valid, (towards_j + towards_k) / 2)


def _agreement(predictions: IntArray, labels: IntArray) -> FloatArray:
    agreement: FloatArray = (predictions == labels).astype(np.float64)
    return agreement


def _first(means: FloatArray) -> FloatArray:
    first: FloatArray = means[..., 0]
    return first


def _probe_correct(probe: ProbeOutcomes, ids: IntArray) -> FloatArray:
    """Whether the probe reads each of `ids` rightly, (N,) float64 in {0, 1}."""
    position = np.searchsorted(probe.ids, ids).clip(max=max(len(probe.ids) - 1, 0))
    missing = ids if len(probe.ids) == 0 else ids[probe.ids[position] != ids]
    if missing.size:
        raise InputError(
            f"the probe must have been asked about every image of the leak, but lacks {missing.size} of them, "
            f"the first with id {missing[0]}; run probe_outcomes on the same split."
        )
    return _agreement(probe.predictions[position], probe.labels[position])
