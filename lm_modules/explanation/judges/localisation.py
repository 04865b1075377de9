"""Do explanations point at the object?"""

from collections.abc import Callable

import numpy as np

from maskrobust.lm_modules.explanation.explained import Explained
from maskrobust.lm_modules.explanation.judges.registry import ImageToJudge, for_each, judge
from maskrobust.lm_modules.explanation.segments import Segments
from maskrobust.lm_modules.reliance.arrays import BoolArray, FloatArray


def object_fractions(segments: Segments, object_mask: BoolArray) -> FloatArray:
    """The fraction of each segment of the first image that lies on the object (H, W) bool: (M,)."""
    labels = segments.labels[0].cpu().numpy().ravel()
    return np.bincount(labels, weights=object_mask.ravel()) / np.bincount(labels)


def cosine(scores: FloatArray, fractions: FloatArray) -> float:
    """Cosine of scores and the object's fractions, (M,) each; NaN where one of them is 0 everywhere."""
    length = float(np.linalg.norm(scores) * np.linalg.norm(fractions))
    return float(scores @ fractions) / length if length > 0 else float("nan")


def overlap_of_highest(scores: FloatArray, fractions: FloatArray) -> float:
    """Overlap over union of the k highest scores with the k segments that lie on the object by more than half.

    NaN where there is no such segment.
    """
    on_object = fractions > 0.5
    count = int(on_object.sum())
    if count == 0:
        return float("nan")
    highest = np.zeros_like(on_object)
    highest[np.argsort(-scores, kind="stable")[:count]] = True
    return float((highest & on_object).sum() / (highest | on_object).sum())


def highest_on_object(scores: FloatArray, fractions: FloatArray) -> float:
    """1 where the highest score is of a segment that lies on the object by more than half, 0 where it is not.

    Equal highest scores are split. NaN where no segment lies on the object by more than half.
    """
    on_object = fractions > 0.5
    return float(on_object[scores == scores.max()].mean()) if on_object.any() else float("nan")


def win_fractions(values: FloatArray) -> FloatArray:
    """For T masking methods (T,), 1 for the largest value and 0 for the others; ties are split. NaN where one is."""
    if np.isnan(values).any():
        return np.full_like(values, np.nan)
    largest = values == values.max()
    return largest / largest.sum()  # type: ignore[no-any-return]


def _localised(image: ImageToJudge, about: Explained, measure: Callable[[FloatArray, FloatArray], float]) -> FloatArray:
    scores = image.scores(about)
    if not image.object_mask.any():
        return np.full(scores.shape[:2], np.nan)
    segments = image.plain[about.partition]
    fractions = image.once(("object", about.partition), lambda: object_fractions(segments, image.object_mask))
    return for_each(scores, lambda each: measure(each, fractions))


@judge(title="Coverage", definition="Cosine of the scores with the share of each segment that lies on the object.")
def coverage(image: ImageToJudge, about: Explained) -> FloatArray:
    """By `cosine`."""
    return _localised(image, about, cosine)


@judge(
    title="Jaccard",
    definition="Overlap of the k highest scores with the k segments that lie on the object by more than half.",
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


@judge(
    title="Win share",
    definition="How often a masking method has the largest coverage of all; ties are split.",
    unit="fraction",
)
def win_share(image: ImageToJudge, about: Explained) -> FloatArray:
    """By `win_fractions`."""
    return np.array([win_fractions(each) for each in coverage(image, about)])
