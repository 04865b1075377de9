"""Which segments are shown, and LIME against scikit-learn and its formula."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from maskrobust import Queries, ask, draw_independent, draw_paper_protocol, lime
from maskrobust.lm_modules.explanation.lime import lime_weights


def test_independent_draws_show_the_share_asked_for():
    z = draw_independent(1, 4000, 20, 0.3)
    np.testing.assert_allclose(z.double().mean(dim=0), 0.3, atol=0.03)
    shares = draw_independent(1, 4000, 200, (0.4, 0.8)).double().mean(dim=1)
    assert 0.48 < shares.quantile(0.25) < 0.52 and 0.68 < shares.quantile(0.75) < 0.72
    assert draw_independent(1, 9, 5, 1.0).all() and not draw_independent(1, 9, 5, 0.0).any()


def test_the_key_decides_and_more_queries_begin_with_fewer():
    assert torch.equal(draw_independent(6, 64, 7), draw_independent(6, 100, 7)[:64])
    assert not torch.equal(draw_independent(6, 64, 7), draw_independent(7, 64, 7))


def test_the_papers_first_query_shows_everything_and_the_others_half():
    z = draw_paper_protocol(3, 40)
    assert z.shape == (512, 40) and z[0].all()
    assert z[1:].double().mean() == pytest.approx(0.5, abs=0.015)


GENERATOR = np.random.default_rng(0)


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


def test_what_one_query_alone_decides_has_no_finite_interval_and_all_else_has_one():
    z = draw_independent(10, 40, 4)
    z[:, 0] = True
    z[7, 0] = False
    found = lime(z, GENERATOR.normal(size=(40, 1)), alpha=0)
    assert np.isinf([found.low[0], found.high[0]]).all() and np.isfinite([found.low[1:], found.high[1:]]).all()


def truth_of_lime():
    """The weighted least squares of all 32 queries, each equally likely."""
    z = torch.tensor([*itertools.product((False, True), repeat=5)])
    return Ridge(alpha=1e-10).fit(z.numpy(), with_pairs(z), sample_weight=lime_weights(z)).coef_.T


def test_limes_intervals_hold_the_truth_at_their_level():
    truth, held = truth_of_lime(), []
    for key in range(150):
        z = draw_independent(key, 100, 5)
        found = lime(z, with_pairs(z), alpha=0)
        held.append((found.low <= truth) & (truth <= found.high))
    assert np.mean(held) == pytest.approx(0.95, abs=0.02) and np.mean(held, axis=0).min() > 0.89


def test_a_class_whose_answers_differ_by_rounding_alone_has_no_effects():
    z = draw_independent(1, 66, 9)
    noise = 1e-7 * np.random.default_rng(0).random((len(z), 2))
    answers = np.column_stack((7.1 + noise[:, 0], 0.3 + z[:, 0].numpy() + noise[:, 1], np.full(len(z), -4.3)))
    found = lime(z, answers)
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


def test_answers_as_a_tensor_and_queries_as_an_array_are_refused_by_their_type():
    answers = np.zeros((20, 1))
    with pytest.raises(TypeError, match=r"answers must be a NumPy array, got Tensor; convert a tensor, as with"):
        lime(Z, torch.from_numpy(answers))
    with pytest.raises(TypeError, match=r"z must be a torch tensor, got numpy.ndarray"):
        lime(Z.numpy(), answers)
    with pytest.raises(TypeError, match=r"visible must be a torch tensor"):
        Queries.of(np.ones((3, 1, 4, 4), dtype=bool))
    with pytest.raises(TypeError, match=r"image must be a torch tensor, got numpy.ndarray"):
        ask(lambda *_: answers, np.zeros((3, 4, 4)), Queries.of(torch.ones(3, 1, 4, 4, dtype=torch.bool)))
