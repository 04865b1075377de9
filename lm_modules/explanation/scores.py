"""What the scores of an explanation say: which are more than rounding noise, and how even they are."""

import numpy as np

from maskrobust.lm_modules.reliance.arrays import FloatArray

_ROUNDING = 1e-5
"""Scores below this are rounding noise of answers, which are float32."""


def shown_scores(scores: FloatArray, axis: int) -> FloatArray:
    """Scores; where all along the axis of segments are rounding noise, below 1e-5, they are 0.

    On a scale of its own noise would look like an explanation.
    """
    return np.where(np.abs(scores).max(axis=axis, keepdims=True) < _ROUNDING, 0.0, scores)


def evenness(scores: FloatArray) -> float:
    """How far all M segments count alike, in [0, 1]: the squared mean score over the mean squared score.

    1 where hiding any segment has the same effect, so that the scores show the hole and not the picture; about 0 where
    scores of both signs balance; NaN where all are 0.

    Args:
        scores: (M,) of one explanation, around 0.
    """
    largest = np.abs(scores).max()
    scaled = scores / largest if largest > 0 else scores
    return float(scaled.mean() ** 2 / np.square(scaled).mean()) if largest > 0 else float("nan")
