"""Mutual information between prediction and label: sees any dependence, also where the outline misleads."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from maskrobust.lm_modules.reliance.arrays import FloatArray, IntArray
from maskrobust.lm_modules.reliance.outcomes import Outcomes


@dataclass(frozen=True)
class Information:
    """Mutual information beside what chance would show.

    Attributes:
        bits: bias-corrected mutual information; slightly below 0 is possible. NaN where no image is valid.
        null_low: lower bound of the same figure when labels are permuted, in bits.
        null_high: upper bound; a figure above it is dependence that chance does not explain.
        images: number of images it rests on.
    """

    bits: float
    null_low: float
    null_high: float
    images: int


def hole_information(
    outcomes: Outcomes,
    hole: Literal["silhouette", "circle"],
    *,
    permutations: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Information:
    """What predictions behind a hole tell about the label, over images with a valid object.

    Args:
        outcomes: of one run.
        hole: which of the two holes of measure 1.
        permutations: number of random orders of the labels behind the null interval.
        seed: decides them.
        confidence: share in (0, 1) of permutations inside the null interval.
    """
    predictions = outcomes.behind(hole)
    valid = outcomes.object_valid
    return mutual_information(
        predictions[valid], outcomes.labels[valid], permutations=permutations, seed=seed, confidence=confidence
    )


def mutual_information(
    predictions: IntArray, labels: IntArray, *, permutations: int = 1000, seed: int = 0, confidence: float = 0.95
) -> Information:
    """Mutual information I(P; Y) = H(P) + H(Y) - H(P, Y) in bits, with its interval under independence.

    Each entropy is the plug-in one plus Miller and Madow's correction (m - 1) / (2 N ln 2) bits, m being the number of
    values that occur (Miller, "Note on the bias of information estimates", 1955).

    Args:
        predictions: (N,) int64.
        labels: (N,) int64.
        permutations: number of random orders of the labels, at least 1.
        seed: decides them.
        confidence: share in (0, 1) of permutations inside the null interval.

    Returns:
        NaN throughout where N is 0.
    """
    images = len(labels)
    if images == 0:
        return Information(float("nan"), float("nan"), float("nan"), 0)
    prediction_codes, prediction_counts = _codes(predictions)
    label_codes, label_counts = _codes(labels)
    marginals = _entropy(prediction_counts) + _entropy(label_counts)
    cells = prediction_codes * len(label_counts)
    rng = np.random.default_rng(seed)
    null = [marginals - _entropy(np.bincount(cells + rng.permutation(label_codes))) for _ in range(permutations)]
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(null, [tail, 1.0 - tail])
    return Information(marginals - _entropy(np.bincount(cells + label_codes)), float(low), float(high), images)


def _codes(values: IntArray) -> tuple[IntArray, IntArray]:
    """Position (N,) of each value among those that occur, and how often each of these does."""
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    return codes, counts


def _entropy(counts: IntArray) -> float:
    """Entropy in bits of a histogram, with the Miller-Madow correction."""
    occurring = counts[counts > 0]
    shares: FloatArray = occurring / occurring.sum()
    plug_in = -(shares * np.log2(shares)).sum()
    return float(plug_in + (len(occurring) - 1) / (2.0 * occurring.sum() * np.log(2.0)))
