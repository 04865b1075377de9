"""`ExplainedImage`: predictions for one image, and their explanations."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from maskrobust.lm_modules.reliance.arrays import FloatArray

Arrays = dict[str, NDArray[Any]]


class Explanation(NamedTuple):
    """Scores of each segment for each class, with intervals.

    Attributes:
        scores: (M, K) float64, or (H, W, K) where pixels are explained.
        low: lower bounds of 95 % intervals, of the shape of `scores`; infinite where the queries cannot tell.
        high: upper bounds.
        r_squared: (K,) weighted R^2 of the linear surrogate on queries it was not fitted to, over five folds: 1 for a
            perfect description, at most 0 for one no better than a constant; NaN where answers do not vary, where there
            are too few to leave some out, and for an explainer without a surrogate.
    """

    scores: FloatArray
    low: FloatArray
    high: FloatArray
    r_squared: FloatArray


class Explained(NamedTuple):
    """Which explanations: of one explainer, on one partition of the image into segments.

    Attributes:
        partition: name of the partition.
        explainer: name of the explainer.
    """

    partition: str
    explainer: str


class Answers(NamedTuple):
    """What networks answered to one kind of queries.

    Attributes:
        visible: (N, M) bool, which segments each query shows; (0, 0) where queries do not follow segments.
        values: (R, T, N, C) float32, of R networks under T masking methods, for C classes; (R, 1, N, C) where nothing
            was hidden.
    """

    visible: NDArray[np.bool_]
    values: NDArray[np.float32]


@dataclass
class ExplainedImage:
    """One image explained for R networks under T masking methods, for C classes.

    Attributes:
        classes: (C,) int64, which are explained.
        predicted: (R,) int64, the likeliest class for the whole image.
        confidence: (R,) float64, its probability.
        whole: (R, C) float64, probabilities of `classes` for the whole image.
        segments: (H, W) int32 by partition, to which of its M segments a pixel belongs.
        answers: the answers by partition and kind of query; partition "" where queries do not follow segments.
        explanations: scores and bounds are (R, T, M, C) float64, the bounds NaN for an explainer without intervals;
            R^2 is (R, T, C), NaN for an explainer without a surrogate.
        picture: (H, W, 3) uint8, for people; None where it is not kept.
    """

    classes: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: FloatArray
    whole: FloatArray
    segments: dict[str, NDArray[np.int32]] = field(default_factory=dict)
    answers: dict[tuple[str, str], Answers] = field(default_factory=dict)
    explanations: dict[Explained, Explanation] = field(default_factory=dict)
    picture: NDArray[np.uint8] | None = None

    def as_arrays(self) -> Arrays:
        """Arrays by name, as `explanations.npz` holds them.

        A name begins with the attribute. Then come, parted by "/" and percent-encoded, the partition, the explainer or
        kind of query, and the part, as in "explanations/slic/lime/scores", "answers/slic/drawn/visible",
        and "segments/slic".
        """
        found: Arrays = {name: getattr(self, name) for name in _PLAIN if getattr(self, name) is not None}
        for name, labels in self.segments.items():
            found[_path("segments", name)] = labels
        for key, answers in self.answers.items():
            found |= {_path("answers", *key, part): each for part, each in answers._asdict().items()}
        for explained, parts in self.explanations.items():
            found |= {_path("explanations", *explained, part): each for part, each in parts._asdict().items()}
        return found


_PLAIN = ("classes", "predicted", "confidence", "whole", "picture")


def _path(*names: str) -> str:
    return "/".join(quote(name, safe=" =+") for name in names)
