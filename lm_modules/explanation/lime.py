"""LIME: which segments each query shows, and a linear surrogate of a network around one image, for all classes at once.

Its 95 % intervals are Student's, from the heteroscedasticity consistent covariance HC3: with coefficients = gain @
answers, the variance is sum_i gain_i^2 (residual_i / (1 - leverage_i))^2 (MacKinnon and White, "Some
heteroskedasticity-consistent covariance matrix estimators with improved finite sample properties", Journal of
Econometrics 1985). Independent queries are assumed; the interval is about the coefficients of an endless sample, and a
ridge's shrinkage towards 0 is not in it.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from maskrobust.augment import fold_in, uniform
from maskrobust.augment.batch import check_tensor
from maskrobust.errors import InputError, check_at_least, check_within, library_needed
from maskrobust.lm_modules.explanation.explained import Explanation
from maskrobust.lm_modules.reliance.arrays import BoolArray, FloatArray

_FOLDS = 5


def draw_independent(
    key: int, samples: int, segments: int, visible_fraction: float | tuple[float, float] = 0.5
) -> Tensor:
    """Queries (N, M) bool in which each segment is visible with probability `visible_fraction`, independently.

    More queries of a key begin with those of a smaller sample.

    Args:
        key: int64.
        samples: number N of queries, at least 1.
        segments: number M of segments, at least 2.
        visible_fraction: the probability, or a range from which each query draws its own uniformly.

    Raises:
        InputError: a number is out of its range.
    """
    check_at_least("samples", samples, 1)
    check_at_least("segments", segments, 2)
    low, high = visible_fraction if isinstance(visible_fraction, tuple) else (visible_fraction, visible_fraction)
    if not 0 <= low <= high <= 1:
        raise InputError(
            f"visible_fraction must lie in 0 to 1, or be a range there, got {visible_fraction}; half visible is usual."
        )
    keys = fold_in(torch.arange(samples), key)
    fractions = low + (high - low) * uniform(fold_in(keys, 0))
    return uniform(fold_in(keys, 1), segments) < fractions.unsqueeze(1)


def draw_paper_protocol(key: int, segments: int) -> Tensor:
    """The queries of LIME in Balasubramanian and Feizi (ICCV 2023): everything, then 511 with half visible.

    The other settings are the defaults of `lime`, on probabilities.
    """
    z = draw_independent(key, 512, segments)
    z[0] = True
    return z


def lime_weights(z: Tensor, kernel_width: float = 0.25) -> FloatArray:
    """exp(-d^2 / w^2) with d = 1 - cos(z, 1) = 1 - sqrt(k / M), k of the M segments being visible.

    Source: Ribeiro, Singh and Guestrin, "Why should I trust you?", KDD 2016, section 3.4. Their package takes the
    square root of it: its width w is sqrt(2) w here. z is (N, M) bool, the result (N,) float64 in (0, 1]; an InputError
    says so where w is not above 0.
    """
    check_within("(0, inf]", "kernel_width", kernel_width)
    distance = 1 - np.sqrt(_numbers(z).mean(axis=1))
    return np.exp(-((distance / kernel_width) ** 2))  # type: ignore[no-any-return]


def lime(z: Tensor, answers: FloatArray, *, alpha: float = 1.0, kernel_width: float = 0.25) -> Explanation:
    """LIME: a weighted ridge regression of the predictions on which segments are visible.

    minimises sum_i w_i (answer_i - b - z_i c)^2 + alpha |c|^2 over b and c, w being `lime_weights`; alpha 0 is least
    squares.

    Args:
        z: (N, M) bool, N at least M + 2.
        answers: (N, K) float64 of `ask`.
        alpha: penalty, at least 0.
        kernel_width: kernel width of the weights, above 0.

    Returns:
        Scores (M, K), the coefficients c, with intervals and R^2.

    Raises:
        InputError: shapes do not fit, there are too few queries, they cannot tell all segments apart (alpha 0), or a
            number is out of its range.
        TypeError: z is no tensor, or answers are no array.
    """
    _check_answers(z, answers)
    check_within("[0, inf)", "alpha", alpha)
    design, answers, weights = _numbers(z), _from_first(answers), lime_weights(z, kernel_width)
    normalised = weights / weights.sum()
    centred, targets = design - normalised @ design, answers - normalised @ answers
    if alpha == 0 and np.linalg.matrix_rank(centred) < centred.shape[1]:
        raise InputError(
            "queries must tell all segments apart, but some are always hidden together or never differ; draw more."
        )
    gain = _gain(centred, weights, alpha)
    scores = gain @ targets
    variance = _hc3(gain, targets - centred @ scores, normalised + (centred * gain.T).sum(axis=1))

    def predict(train: BoolArray, test: BoolArray) -> FloatArray:
        part = weights[train] / weights[train].sum()
        centre, mean = part @ design[train], part @ answers[train]
        fitted = _gain(design[train] - centre, weights[train], alpha) @ (answers[train] - mean)
        return mean + (design[test] - centre) @ fitted  # type: ignore[no-any-return]

    with library_needed():
        from scipy import stats

    reach = stats.t.ppf(0.975, len(z) - z.shape[1] - 1) * np.sqrt(variance)
    return Explanation(scores, scores - reach, scores + reach, _r_squared(predict, answers, weights))


def _check_answers(z: Tensor, answers: FloatArray) -> None:
    check_tensor("z", z)
    if not isinstance(answers, np.ndarray):
        raise TypeError(
            f"answers must be a NumPy array, got {type(answers).__name__}; convert a tensor, as with "
            "answers.detach().double().numpy()."
        )
    if z.ndim != 2 or z.dtype != torch.bool or answers.ndim != 2 or len(z) != len(answers):
        raise InputError(
            f"queries must be bool (N, M) and answers (N, K), got {z.dtype} {tuple(z.shape)} and {answers.shape}; give "
            "the answers to these queries."
        )
    if len(z) < z.shape[1] + 2:
        raise InputError(f"{z.shape[1]} segments need at least {z.shape[1] + 2} queries, got {len(z)}; draw more.")
    if not np.isfinite(answers).all():
        raise InputError("answers must be finite, got NaN or infinity; leave those queries out.")


def _from_first(answers: FloatArray) -> FloatArray:
    """Answers (N, K) minus the first; 0 for a class whose answers differ by rounding alone, 1e-6 of the largest."""
    change = answers - answers[0]
    varies = np.abs(change).max(axis=0) > 1e-6 * np.abs(answers).max(axis=0)
    return np.where(varies, change, 0.0)


def _numbers(z: Tensor) -> FloatArray:
    return z.cpu().numpy().astype(np.float64)


def _gain(design: FloatArray, weights: FloatArray, alpha: float) -> FloatArray:
    """(P, N) such that gain @ targets are the coefficients of the weighted ridge without intercept."""
    weighted = design.T * weights
    penalty = alpha * np.eye(design.shape[1])
    return np.linalg.pinv(weighted @ design + penalty, rcond=1e-12, hermitian=True) @ weighted


def _hc3(gain: FloatArray, residuals: FloatArray, leverage: FloatArray) -> FloatArray:
    """Variances (M, K) of gain @ answers; infinite where a query without which there is no coefficient decides it."""
    alone, left = leverage > 1 - 1e-6, np.maximum(1 - leverage, 1e-6)
    variance: FloatArray = gain**2 @ (residuals / left[:, np.newaxis]) ** 2
    variance[(np.abs(gain[:, alone]) > 1e-6 * np.abs(gain).max()).any(axis=1)] = np.inf
    return variance


def _r_squared(
    predict: Callable[[BoolArray, BoolArray], FloatArray], answers: FloatArray, weights: FloatArray
) -> FloatArray:
    """1 - error of the surrogate / error of the weighted mean, both of the other folds; a pair 2 i, 2 i + 1 is in one.

    `predict` takes which queries to fit to and which to predict, (N,) bool.
    """
    fold = np.arange(len(answers)) // 2 % _FOLDS
    error, spread = np.zeros((2, answers.shape[1]))
    for number in range(min(_FOLDS, int(fold.max()) + 1) if len(answers) > 2 else 0):
        test = fold == number
        train = ~test
        error += weights[test] @ (answers[test] - predict(train, test)) ** 2
        spread += weights[test] @ (answers[test] - np.average(answers[train], axis=0, weights=weights[train])) ** 2
    varies = spread > 1e-20 * (weights @ answers**2)  # float64 leaves 1e-32 of a constant
    return 1 - np.divide(error, spread, out=np.full_like(error, np.nan), where=varies)
