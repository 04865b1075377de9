"""The judges `coverage`, `jaccard` and `pointing`: how well scores lie on the object."""

from collections.abc import Callable

import numpy as np

from maskrobust.lm_modules.explanation.explained import Explained
from maskrobust.lm_modules.explanation.judges.registry import ImageToJudge, for_each, judge
from maskrobust.lm_modules.explanation.segments import Segments
from maskrobust.lm_modules.reliance.arrays import BoolArray, FloatArray, IntArray, rankable


def object_fractions(segments: Segments, object_mask: BoolArray) -> FloatArray:
    """The fraction of each segment of the first image that lies on the object (H, W) bool: (M,)."""
    return np.bincount(_pixel_labels(segments), weights=object_mask.ravel()) / areas(segments)


def areas(segments: Segments) -> FloatArray:
    """Pixels of each segment of the first image: (M,)."""
    return np.bincount(_pixel_labels(segments)).astype(np.float64)


def _pixel_labels(segments: Segments) -> IntArray:
    return segments.labels[0].cpu().numpy().ravel()


def centred_cosine(scores: FloatArray, fractions: FloatArray, areas: FloatArray) -> float:
    """Cosine, over pixels, of the scores with the object's fractions minus their mean over pixels.

    With weights w (areas over their sum) it is sum(w s c) / sqrt(sum(w s^2) sum(w c^2)), where c = f - sum(w f). Equal
    scores, and others that do not follow the object, give 0. Scores that are 0 outside the object and equal on it give
    sqrt(1 - a), where a is the object's fraction of the image; 1 needs negative scores outside.

    Args:
        scores: s, (M,).
        fractions: f, (M,); of each segment on the object.
        areas: (M,), pixels of each segment.

    Returns:
        NaN where the scores are 0 everywhere or the fractions are the same everywhere.
    """
    weights = areas / areas.sum()
    centred = fractions - weights @ fractions
    length = float(np.sqrt((weights @ scores**2) * (weights @ centred**2)))
    return float((weights * scores) @ centred) / length if length > 0 else float("nan")


def overlap_of_highest(scores: FloatArray, fractions: FloatArray) -> float:
    """Overlap over union of the k highest scores with the k segments that lie on the object by more than half.

    NaN where there is no such segment.
    """
    on_object = fractions > 0.5
    count = int(on_object.sum())
    if count == 0:
        return float("nan")
    highest = np.zeros_like(on_object)
    highest[np.argsort(-rankable(scores), kind="stable")[:count]] = True
    return float((highest & on_object).sum() / (highest | on_object).sum())


def highest_on_object(scores: FloatArray, fractions: FloatArray) -> float:
    """1 where the highest score is of a segment that lies on the object by more than half, 0 where it is not.

    Equal highest scores are split. NaN where no segment lies on the object by more than half.
    """
    on_object = fractions > 0.5
    scores = rankable(scores)
    return float(on_object[scores == scores.max()].mean()) if on_object.any() else float("nan")


def _localised(image: ImageToJudge, about: Explained, measure: Callable[[FloatArray, FloatArray], float]) -> FloatArray:
    scores = image.scores(about)
    if not image.object_mask.any():
        return np.full(scores.shape[:2], np.nan)
    segments = image.partitions[about.partition]
    fractions = image.once(("object", about.partition), lambda: object_fractions(segments, image.object_mask))
    return for_each(scores, lambda each: measure(each, fractions))


@judge(
    title="Coverage (cosine)",
    definition="Cosine, over pixels, between the scores and the mean-centred object mask; 0: scores do not follow it.",
)
def coverage(image: ImageToJudge, about: Explained) -> FloatArray:
    """By `centred_cosine`, as in Balasubramanian and Feizi, "Towards Improved Input Masking for CNNs" (ICCV 2023)."""
    pixels = areas(image.partitions[about.partition])
    return _localised(image, about, lambda scores, fractions: centred_cosine(scores, fractions, pixels))


@judge(
    title="Jaccard",
    definition="Jaccard index of the n segments that lie on the object by more than half with the n "
    "highest-scored segments.",
)
def jaccard(image: ImageToJudge, about: Explained) -> FloatArray:
    """By `overlap_of_highest`."""
    return _localised(image, about, overlap_of_highest)


@judge(
    title="Pointing game",
    definition="How often the segment with the highest score lies on the object by more than half.",
    unit="fraction",
)
def pointing(image: ImageToJudge, about: Explained) -> FloatArray:
    """By `highest_on_object`."""
    return _localised(image, about, highest_on_object)
