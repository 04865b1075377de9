"""Silhouette leak (measure 1) and swap pull (measure 2): what the outline of a hole does to predictions."""

import numpy as np

from maskrobust.lm_modules.reliance.arrays import FloatArray, IntArray
from maskrobust.lm_modules.reliance.catalogue import measure, where_all_shapes, where_shapes
from maskrobust.lm_modules.reliance.estimates.estimation import (
    Columns,
    Statistic,
    columns_of,
    difference_of_means,
    right_answers,
)
from maskrobust.lm_modules.reliance.outcomes import Outcomes


@measure(
    title="Leak",
    definition="Silhouette accuracy minus circle accuracy, paired image by image. Both holes remove the whole object; "
    "only the first leaves its outline. Below zero the outline is read too, and misleads.",
    group="outline",
    members=where_shapes,
    in_training=True,
    in_terminal=True,
    compared=True,
)
def silhouette_leak() -> Statistic:
    """Measure 1: mean of 1[right behind the silhouette] - 1[right behind the circle], in [-1, 1]."""
    return Statistic(lambda outcomes: right_answers(outcomes, "silhouette", "circle"), difference_of_means)


@measure(
    title="Swap pull",
    definition="How far a prediction follows another object's outline that is cut out of the image, against that of a "
    "third object of like area. Only the shape changes, so this is the causal effect of the shape. The interval takes "
    "the outlines that were swapped in as given.",
    group="outline",
    members=where_all_shapes,
    in_training=True,
    in_terminal=True,
    compared=True,
)
def swap_pull() -> Statistic:
    """Measure 2: how far a prediction follows the shape that is cut out of an unrelated image, in [-1, 1].

    The mean of 1/2 (1[f_j = y_j] - 1[f_k = y_j] + 1[f_k = y_k] - 1[f_j = y_k]), with f_j the prediction behind object
    j's silhouette. It is the average of P[f_j = y_j] - P[f_k = y_j] and the same with j and k exchanged: where j and k
    are exchangeable, of equal expectation as either and of less variance, from the same two forward passes. Its
    interval is over images, and takes the silhouettes that were swapped in as given.
    """
    return Statistic(_columns)


def _columns(outcomes: Outcomes) -> Columns:
    behind_j, behind_k = outcomes.predictions_under("swap_j"), outcomes.predictions_under("swap_k")
    towards_j = _agreement(behind_j, outcomes.swap_label_j) - _agreement(behind_k, outcomes.swap_label_j)
    towards_k = _agreement(behind_k, outcomes.swap_label_k) - _agreement(behind_j, outcomes.swap_label_k)
    return columns_of(outcomes, outcomes.swap_valid, (towards_j + towards_k) / 2)


def _agreement(predictions: IntArray, labels: IntArray) -> FloatArray:
    return np.asarray(predictions == labels, dtype=np.float64)
