"""LIME and KernelSHAP: linear surrogates of a network around one image, for all classes at once.

Their 95 % intervals are Student's, from the heteroscedasticity consistent covariance HC3: with coefficients = gain @
answers, the variance is sum_i gain_i^2 (residual_i / (1 - leverage_i))^2 (MacKinnon and White, "Some
heteroskedasticity-consistent covariance matrix estimators with improved finite sample properties", Journal of
Econometrics 1985). Independent queries are assumed; the interval is about the coefficients of an endless sample, and a
ridge's shrinkage towards 0 is not in it.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from maskrobust.augment.batch import check_tensor
from maskrobust.errors import InputError, check_within, library_needed
from maskrobust.lm_modules.explanation.explained import Explanation
from maskrobust.lm_modules.explanation.explainers.registry import coalition_queries, explainer, surrogate_queries
from maskrobust.lm_modules.explanation.plan import ExplanationPlan
from maskrobust.lm_modules.explanation.segments import Segments
from maskrobust.lm_modules.reliance.arrays import BoolArray, FloatArray

_FOLDS = 5


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
    """
    check_answers(z, answers, z.shape[-1] + 2)
    check_within("[0, inf)", "alpha", alpha)
    design, answers, weights = _numbers(z), _from_first(answers), lime_weights(z, kernel_width)
    normalised = weights / weights.sum()
    centred, targets = design - normalised @ design, answers - normalised @ answers
    if alpha == 0:
        _check_rank(centred)
    gain = _gain(centred, weights, alpha)
    scores = gain @ targets
    variance = _hc3(gain, targets - centred @ scores, normalised + (centred * gain.T).sum(axis=1))

    def predict(train: BoolArray, test: BoolArray) -> FloatArray:
        part = weights[train] / weights[train].sum()
        centre, mean = part @ design[train], part @ answers[train]
        fitted = _gain(design[train] - centre, weights[train], alpha) @ (answers[train] - mean)
        return mean + (design[test] - centre) @ fitted  # type: ignore[no-any-return]

    bounds = student_interval(scores, variance, len(z) - z.shape[1] - 1)
    return Explanation(scores, *bounds, _r_squared(predict, answers, weights))


def shapley_weights(z: Tensor) -> FloatArray:
    """(M - 1) / (C(M, k) k (M - k)) for coalitions of k segments out of M, 0 < k < M, over its value at k = 1.

    z is (N, M) bool, the result (N,) float64 in (0, 1].
    """
    count = z.shape[1]
    by_size = [(count - 1) / (math.comb(count, k) * k * (count - k)) * count for k in range(1, count)]
    weights: FloatArray = np.array(by_size)[z.sum(dim=1).cpu().numpy() - 1]
    return weights


def kernel_shap(z: Tensor, answers: FloatArray, *, drawn_by_kernel: bool = False) -> Explanation:
    """Shapley values, which sum to the prediction for everything minus that for nothing visible.

    minimises sum_i w_i (answer_i - f(nothing) - z_i c)^2 subject to sum c = f(everything) - f(nothing) = total. The
    constraint is eliminated: c = total / M + B t, columns of B adding up to 0. All coalitions (`all_coalitions`) give
    the exact values, in an interval without width.

    Source: Lundberg and Lee, "A unified approach to interpreting model predictions", NeurIPS 2017, theorem 2.

    Args:
        z: (N, M) bool, among them everything, nothing and either M + 1 others or all others.
        answers: (N, K) float64 of `ask`.
        drawn_by_kernel: z is of `draw_coalitions`: all weights are 1. If not, each coalition must have been equally
            likely (`draw_independent` with half visible, `all_coalitions`), and w is
            `shapley_weights`.

    Returns:
        Scores (M, K), the Shapley values c, with intervals, and R^2 over the queries but everything and nothing.

    Raises:
        InputError: shapes do not fit, there are too few queries, everything or nothing is not among them, or they
            cannot tell all segments apart.
    """
    check_answers(z, answers, 3)
    count, visible_count = z.shape[1], z.sum(dim=1).cpu().numpy()
    everything, nothing = visible_count == count, visible_count == 0
    if not everything.any() or not nothing.any():
        raise InputError("z must hold a query with everything and one with nothing visible; add them by with_ends.")
    inner = ~(everything | nothing)
    exact = len(z) == 2**count == len(z.unique(dim=0))
    if not exact and inner.sum() < count + 1:
        raise InputError(
            f"{count} segments need {count + 1} queries beside everything and nothing, got {inner.sum()}; draw more."
        )
    kept = z.cpu()[torch.from_numpy(inner)]
    answers = _from_first(answers)
    weights = np.ones(len(kept)) if drawn_by_kernel else shapley_weights(kept)
    bottom = answers[nothing].mean(axis=0)
    even = (answers[everything].mean(axis=0) - bottom) / count
    basis = np.vstack((np.eye(count - 1), -np.ones(count - 1)))
    design, offset = _numbers(kept) @ basis, bottom + np.outer(visible_count[inner], even)
    targets = answers[inner] - offset
    _check_rank(design)
    gain = _gain(design, weights, 0.0)
    fitted = gain @ targets
    scores = even + basis @ fitted
    variance = _hc3(basis @ gain, targets - design @ fitted, (design * gain.T).sum(axis=1))
    if exact:
        variance[:] = 0

    def predict(train: BoolArray, test: BoolArray) -> FloatArray:
        part = _gain(design[train], weights[train], 0.0) @ targets[train]
        return offset[test] + design[test] @ part  # type: ignore[no-any-return]

    bounds = student_interval(scores, variance, len(kept) - count + 1)
    return Explanation(scores, *bounds, _r_squared(predict, answers[inner], weights))


def check_answers(z: Tensor, answers: FloatArray, least: int) -> None:
    """Raise an `InputError` where z is not bool (N, M), or answers not finite (N, K), or N below `least`.

    And a `TypeError` where z is no tensor, or answers are no array.
    """
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
    if len(z) < least:
        raise InputError(f"{z.shape[1]} segments need at least {least} queries, got {len(z)}; draw more.")
    if not np.isfinite(answers).all():
        raise InputError("answers must be finite, got NaN or infinity; leave those queries out.")


def student_interval(scores: FloatArray, variance: FloatArray, freedom: int) -> tuple[FloatArray, FloatArray]:
    """Student's 95 % interval of scores with the given variances and at least 1 degree of freedom: lower, upper."""
    with library_needed():
        from scipy import stats

    reach = stats.t.ppf(0.975, freedom) * np.sqrt(variance)
    return scores - reach, scores + reach


def _from_first(answers: FloatArray) -> FloatArray:
    """Answers (N, K) minus the first; 0 for a class whose answers differ by rounding alone, 1e-6 of the largest."""
    change = answers - answers[0]
    varies = np.abs(change).max(axis=0) > 1e-6 * np.abs(answers).max(axis=0)
    return np.where(varies, change, 0.0)


def _numbers(z: Tensor) -> FloatArray:
    return z.cpu().numpy().astype(np.float64)


def _check_rank(design: FloatArray) -> None:
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise InputError(
            "queries must tell all segments apart, but some are always hidden together or never differ; draw more."
        )


def _gain(design: FloatArray, weights: FloatArray, alpha: float) -> FloatArray:
    """(P, N) such that gain @ targets are the coefficients of the weighted ridge without intercept."""
    weighted = design.T * weights
    penalty = alpha * np.eye(design.shape[1])
    gain: FloatArray = np.linalg.pinv(weighted @ design + penalty, rcond=1e-12, hermitian=True) @ weighted
    return gain


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


@explainer("lime", title="LIME", asks=surrogate_queries, draws=True, has_surrogate=True)
def _lime(_plan: ExplanationPlan, _segments: Segments, z: Tensor, answers: FloatArray) -> Explanation:
    return lime(z, answers)


@explainer("kernel_shap", title="KernelSHAP", asks=coalition_queries, draws=True, has_surrogate=True)
def _kernel_shap(_plan: ExplanationPlan, _segments: Segments, z: Tensor, answers: FloatArray) -> Explanation:
    return kernel_shap(z, answers, drawn_by_kernel=True)
