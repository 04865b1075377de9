"""RISE: the mean prediction while a segment or a pixel is visible."""

import numpy as np
from torch import Tensor

from maskrobust.errors import InputError
from maskrobust.lm_modules.explanation.explained import Explanation
from maskrobust.lm_modules.explanation.explainers.linear import check_answers, student_interval
from maskrobust.lm_modules.explanation.explainers.registry import drawn_queries, explainer
from maskrobust.lm_modules.explanation.plan import ExplanationPlan
from maskrobust.lm_modules.explanation.segments import Segments
from maskrobust.lm_modules.reliance.arrays import FloatArray

_CHUNK = 64


def rise(visible: Tensor, answers: FloatArray, visible_fraction: float) -> Explanation:
    """RISE scores: the mean over queries of prediction times visibility, over the expected visibility.

    score_j = sum_i visible_ij answer_i / (N f), where f is `visible_fraction`, an unbiased estimate of
    E[answer | j visible]. The interval is Student's, from the variance of the N terms, for independent queries. Cells
    are binary, without the original's upsampled borders, for nothing can be half visible to layer masking.

    Source: Petsiuk, Das and Saenko, "RISE: Randomized input sampling for explanation of black-box models", BMVC 2018.

    Args:
        visible: (N, M) bool, or (N, H, W) for pixels under cells of which each query shifts the grid.
        answers: (N, K).
        visible_fraction: the probability with which each is visible, in (0, 1]; of a range its mean.

    Returns:
        Scores (M, K) or (H, W, K) with their interval, and no R^2.

    Raises:
        InputError: shapes do not fit, or `visible_fraction` is out of its range.
    """
    check_answers(visible.flatten(1), answers, 2)
    if not 0 < visible_fraction <= 1:
        raise InputError(
            f"visible_fraction must lie above 0 and at most at 1, got {visible_fraction}; give that of the draws."
        )
    count, (samples, classes) = visible[0].numel(), answers.shape
    sums, squares = np.zeros((2, count, classes))
    for start in range(0, samples, _CHUNK):
        part = slice(start, start + _CHUNK)
        shown = visible[part].flatten(1).cpu().numpy().T.astype(np.float64)
        sums += shown @ answers[part]
        squares += shown @ answers[part] ** 2
    scores = sums / (samples * visible_fraction)
    variance = np.maximum(squares / (samples * visible_fraction**2) - scores**2, 0) / (samples - 1)
    low, high = student_interval(scores, variance, samples - 1)
    shape = (*visible.shape[1:], classes)
    return Explanation(scores.reshape(shape), low.reshape(shape), high.reshape(shape), None)


@explainer("rise", title="RISE", asks=drawn_queries, draws=True)
def _rise(plan: ExplanationPlan, _segments: Segments, z: Tensor, answers: FloatArray) -> Explanation:
    first = int(plan.design == "paper")  # whose first query is not drawn
    return rise(z[first:], answers[first:], sum(plan.visible_range) / 2)
