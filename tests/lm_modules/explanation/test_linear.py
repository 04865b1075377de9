"""Which segments are shown, and LIME and KernelSHAP against scikit-learn, lime's formula, and brute force."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from maskrobust import all_coalitions, draw_coalitions, draw_independent, kernel_shap, lime, with_ends
from maskrobust.errors import InputError
from maskrobust.lm_modules.explanation.explainers.linear import lime_weights, shapley_weights
from tests.conftest import assert_one_sentence


def test_independent_draws_show_the_share_asked_for():
    z = draw_independent(1, 4000, 20, 0.3)
    np.testing.assert_allclose(z.double().mean(dim=0), 0.3, atol=0.03)
    shares = draw_independent(1, 4000, 200, (0.4, 0.8)).double().mean(dim=1)
    assert 0.48 < shares.quantile(0.25) < 0.52 and 0.68 < shares.quantile(0.75) < 0.72
    assert draw_independent(1, 9, 5, 1.0).all() and not draw_independent(1, 9, 5, 0.0).any()


@pytest.mark.parametrize("draw", [draw_independent, draw_coalitions])
def test_the_key_decides(draw):
    assert torch.equal(draw(6, 64, 7), draw(6, 64, 7))
    assert not torch.equal(draw(6, 64, 7), draw(7, 64, 7))


def test_coalitions_are_drawn_as_often_as_the_kernel_weighs_them():
    z, subsets = draw_coalitions(8, 20_000, 5)[2:], all_coalitions(5)[2:]
    drawn = Counter(map(tuple, z.tolist()))
    found = np.array([drawn[tuple(subset)] for subset in subsets.tolist()]) / len(z)
    weights = shapley_weights(subsets)
    np.testing.assert_allclose(found, weights / weights.sum(), atol=0.006)
    assert weights[subsets.sum(dim=1) == 1].tolist() == [1.0] * 5
    np.testing.assert_allclose(weights[subsets.sum(dim=1) == 2], (4 / (10 * 2 * 3)) / (4 / (5 * 1 * 4)))


def test_all_coalitions_are_every_subset_once_and_everything_and_nothing_come_first():
    z = all_coalitions(4)
    assert len(z.unique(dim=0)) == len(z) == 16
    assert z[0].all() and not z[1].any() and torch.equal(with_ends(z[2:]), z)


GENERATOR = np.random.default_rng(0)
EFFECTS = GENERATOR.normal(size=(6, 3))


def additive(z):
    return 0.3 + z.numpy() @ EFFECTS[: z.shape[1]]


def with_pairs(z):
    """A game that is not additive: a product of two, one of three, and an 'or'."""
    x = z.numpy().astype(float)
    first = x[:, 0] + 2 * x[:, 1] * x[:, 2] - x[:, 3] * x[:, 4] * x[:, 0]
    return np.column_stack((first, np.maximum(x[:, 1], x[:, 4]) + 0.5 * x[:, 2]))


def test_coefficients_are_those_of_scikit_learns_ridge():
    z = draw_independent(1, 60, 9, (0.2, 0.9))
    answers = GENERATOR.normal(size=(60, 4))
    distance = 1 - np.sqrt(z.numpy().sum(axis=1) / 9)
    ridge = Ridge(alpha=0.7).fit(z.numpy(), answers, sample_weight=np.exp(-(distance**2) / 0.3**2))
    np.testing.assert_allclose(lime(z, answers, alpha=0.7, kernel_width=0.3).scores, ridge.coef_.T, atol=1e-6)


def test_all_coalitions_give_the_exact_shapley_values():
    z = all_coalitions(5)
    value = {tuple(row): answer for row, answer in zip(z.tolist(), with_pairs(z), strict=True)}
    expected = np.zeros((5, 2))
    for order in itertools.permutations(range(5)):
        coalition = [False] * 5
        for player in order:
            before = value[tuple(coalition)]
            coalition[player] = True
            expected[player] += (value[tuple(coalition)] - before) / math.factorial(5)
    found = kernel_shap(z, with_pairs(z))
    np.testing.assert_allclose(found.scores, expected, atol=1e-8)
    assert np.array_equal(found.low, found.scores) and np.array_equal(found.high, found.scores)


def hc3(design, targets, weights, penalty):
    """The covariance of weighted least squares by the textbook: bread, meat, bread, observation by observation."""
    bread = np.linalg.inv(sum(w * np.outer(x, x) for x, w in zip(design, weights, strict=True)) + penalty)
    solution = bread @ sum(w * x * y for x, y, w in zip(design, targets, weights, strict=True))
    meat = np.zeros_like(bread)
    for x, y, w in zip(design, targets, weights, strict=True):
        score = w * x * (y - x @ solution) / (1 - w * x @ bread @ x)
        meat += np.outer(score, score)
    return solution, bread @ meat @ bread


@pytest.mark.parametrize("alpha", [0, 1])
def test_the_interval_of_lime_is_students_with_hc3(alpha):
    z, answers = draw_independent(10, 20, 4), GENERATOR.normal(size=(20, 1))
    penalty = np.diag([alpha] * 4 + [0.0])
    solution, covariance = hc3(np.column_stack((z, np.ones(20))), answers[:, 0], lime_weights(z), penalty)
    found, reach = lime(z, answers, alpha=alpha), stats.t(20 - 5).ppf(0.975) * np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(found.low[:, 0], (solution - reach)[:4], atol=1e-9)
    np.testing.assert_allclose(found.high[:, 0], (solution + reach)[:4], atol=1e-9)


def test_the_interval_of_kernel_shap_is_students_with_hc3_whichever_score_is_eliminated():
    z, answers = draw_coalitions(11, 16, 4), GENERATOR.normal(size=(16, 1))
    bottom, total = answers[1, 0], answers[0, 0] - answers[1, 0]
    found = kernel_shap(z, answers, drawn_by_kernel=True)
    for eliminated in range(4):
        last, others = z.numpy()[2:, eliminated].astype(float), np.delete(z.numpy()[2:], eliminated, axis=1)
        targets = answers[2:, 0] - bottom - last * total
        solution, covariance = hc3(others - last[:, np.newaxis], targets, np.ones(14), 0)
        reach = stats.t(14 - 3).ppf(0.975) * np.sqrt(np.diag(covariance))
        np.testing.assert_allclose(np.delete(found.low[:, 0], eliminated), solution - reach, atol=1e-9)
        np.testing.assert_allclose(np.delete(found.high[:, 0], eliminated), solution + reach, atol=1e-9)


def interval_coverage(explain, draw, truth, repetitions=300):
    """The share of intervals that hold the truth, over samples."""
    held = []
    for key in range(repetitions):
        z = draw(key)
        found = explain(z, with_pairs(z))
        held.append((found.low <= truth) & (truth <= found.high))
    return np.mean(held, axis=0)


def truth_of_lime():
    """The weighted least squares of all 32 queries, each equally likely."""
    z = all_coalitions(5)
    return Ridge(alpha=1e-10).fit(z.numpy(), with_pairs(z), sample_weight=lime_weights(z)).coef_.T


def test_limes_intervals_hold_the_truth_at_their_level():
    found = interval_coverage(
        lambda z, y: lime(z, y, alpha=0), lambda key: draw_independent(key, 100, 5), truth_of_lime()
    )
    assert found.mean() == pytest.approx(0.95, abs=0.02) and found.min() > 0.89


def test_kernel_shaps_intervals_hold_the_truth_at_their_level():
    exact = kernel_shap(all_coalitions(5), with_pairs(all_coalitions(5))).scores
    draws = {
        True: lambda key: draw_coalitions(key, 100, 5),
        False: lambda key: with_ends(draw_independent(key, 100, 5)),
    }
    for by_kernel, draw in draws.items():
        found = interval_coverage(lambda z, y, by=by_kernel: kernel_shap(z, y, drawn_by_kernel=by), draw, exact)
        assert found.mean() == pytest.approx(0.95, abs=0.02) and found.min() > 0.89


@pytest.mark.parametrize("explain", [lime, kernel_shap])
def test_a_class_whose_answers_differ_by_rounding_alone_has_no_effects(explain):
    z = with_ends(draw_independent(1, 64, 9))
    noise = 1e-7 * np.random.default_rng(0).random((len(z), 2))
    answers = np.column_stack((7.1 + noise[:, 0], 0.3 + z[:, 0].numpy() + noise[:, 1], np.full(len(z), -4.3)))
    found = explain(z, answers)
    assert (found.scores[:, [0, 2]] == 0).all() and np.isnan(found.r_squared[[0, 2]]).all()
    assert found.scores[0, 1] > 0.5 and found.r_squared[1] > 0.5


def test_r_squared_is_that_of_left_out_queries():
    z, answers = draw_independent(6, 50, 4), GENERATOR.normal(size=(50, 2))
    weights, fold = lime_weights(z), np.arange(50) // 2 % 5
    error, spread = np.zeros(2), np.zeros(2)
    for each in range(5):
        train, test = fold != each, fold == each
        ridge = Ridge(alpha=1).fit(z.numpy()[train], answers[train], sample_weight=weights[train])
        mean = np.average(answers[train], axis=0, weights=weights[train])
        error += weights[test] @ (answers[test] - ridge.predict(z.numpy()[test])) ** 2
        spread += weights[test] @ (answers[test] - mean) ** 2
    found = lime(z, answers)
    np.testing.assert_allclose(found.r_squared, 1 - error / spread, atol=1e-9)
    fitted = Ridge(alpha=1).fit(z.numpy(), answers, sample_weight=weights).predict(z.numpy())
    assert (found.r_squared < r2_score(answers, fitted, sample_weight=weights, multioutput="raw_values")).all()


Z = draw_independent(8, 20, 4)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: draw_independent(0, 0, 5), "samples must be at least 1"),
        (lambda: draw_independent(0, 5, 1), "segments must be at least 2"),
        (lambda: draw_independent(0, 5, 5, (0.9, 0.2)), "visible_fraction must lie in 0 to 1"),
        (lambda: draw_coalitions(0, 2, 5), "samples must be at least 3"),
        (lambda: all_coalitions(17), "at most 16 segments, got 17; use draw_coalitions"),
        (lambda: lime(Z, np.zeros((19, 1))), r"queries must be bool \(N, M\) and answers \(N, K\)"),
        (lambda: lime(Z[:5], np.zeros((5, 1))), "4 segments need at least 6 queries, got 5; draw more"),
        (lambda: lime(Z, np.full((20, 1), np.nan)), "answers must be finite"),
        (lambda: lime(Z, np.zeros((20, 1)), alpha=-1), r"alpha must lie in \[0, inf\)"),
        (lambda: lime(Z, np.zeros((20, 1)), kernel_width=0), r"kernel_width must lie in \(0, inf\]"),
        (lambda: lime(Z[:, [0, 0]], np.zeros((20, 1)), alpha=0), "must tell all segments apart"),
        (lambda: kernel_shap(Z[Z.any(dim=1) & ~Z.all(dim=1)][:9], np.zeros((9, 1))), "add them by with_ends"),
        (lambda: kernel_shap(with_ends(Z[:4]), np.zeros((6, 1))), "4 segments need 5 queries beside everything"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, sentence):
    with pytest.raises(InputError, match=sentence) as refusal:
        call()
    assert_one_sentence(refusal)


@pytest.mark.parametrize("explain", [lime, kernel_shap])
def test_answers_as_a_tensor_and_queries_as_an_array_are_refused_by_their_type(explain):
    answers = np.zeros((20, 1))
    with pytest.raises(TypeError, match=r"answers must be a NumPy array, got Tensor; convert a tensor, as with"):
        explain(Z, torch.from_numpy(answers))
    with pytest.raises(TypeError, match=r"z must be a torch tensor, got numpy.ndarray"):
        explain(Z.numpy(), answers)
