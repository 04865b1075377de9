"""Measures of networks that classify pixels: IoU, accuracy, and pixels that change with what a hole is painted with."""

from functools import partial
from typing import Any

import numpy as np

from maskrobust.lm_modules.reliance.arrays import FloatArray
from maskrobust.lm_modules.reliance.catalogue import measure
from maskrobust.lm_modules.reliance.estimates.estimation import Columns, Statistic

_of_pixels = partial(measure, group="pixels", unit="fraction", members=lambda _plan: (), compared=True)
_WHERE = "Hidden pixels and pixels without a label count nowhere, and all images count together."


def _columns(found: Any) -> Columns:
    """The numbers of pixels of a `PixelCounts`, image by image."""
    return Columns(found.ids, found.objects, found.counts.reshape(len(found.ids), -1).T.astype(np.float64), 0)


def _by_class(means: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Right, labelled and predicted pixels of each class, (..., K) each, of (..., 3 K)."""
    right, labelled, predicted = np.split(means, 3, axis=-1)
    return right, labelled, predicted


def _iou(means: FloatArray) -> FloatArray:
    right, labelled, predicted = _by_class(means)
    occurs = (labelled > 0.0) | (predicted > 0.0)
    ratios = np.where(occurs, right / (labelled + predicted - right), 0.0)
    mean: FloatArray = ratios.sum(axis=-1) / occurs.sum(axis=-1)
    return mean


def _accuracy(means: FloatArray) -> FloatArray:
    right, labelled, _ = _by_class(means)
    fraction: FloatArray = right.sum(axis=-1) / labelled.sum(axis=-1)
    return fraction


@_of_pixels(
    title="IoU of visible pixels",
    definition="Pixels that have a class and are given it, divided by pixels that have it or are given it, and of that "
    f"the mean over classes that occur. {_WHERE}",
    goal="high",
)
def pixel_iou() -> Statistic:
    """Mean over classes k of |right_k| / |labelled_k or predicted_k|, in [0, 1]."""
    return Statistic(_columns, _iou, is_ratio=True)


@_of_pixels(
    title="Accuracy of visible pixels",
    definition=f"Fraction of pixels that are given their class. {_WHERE}",
    goal="high",
)
def pixel_accuracy() -> Statistic:
    """|right| / |labelled|, in [0, 1]."""
    return Statistic(_columns, _accuracy, is_ratio=True)


@_of_pixels(
    title="Pixels that change with the paint",
    definition="Fraction of visible pixels whose class is not the same when the same hole is filled with black, the "
    "mean colour, a random colour and noise. Layer masking paints nothing, and its answers cannot change.",
    goal="low",
)
def changed_by_paint() -> Statistic:
    """|pixels with more than one class| / |visible pixels|, in [0, 1]."""
    return Statistic(_columns, lambda means: means[..., 0] / means[..., 1], is_ratio=True)
