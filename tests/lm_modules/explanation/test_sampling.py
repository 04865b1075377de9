"""Which segments are visible: shares, the balanced design, and coalitions."""

from collections import Counter

import numpy as np
import pytest
import torch

from maskrobust import all_coalitions, draw_balanced, draw_coalitions, draw_independent, with_ends
from maskrobust.errors import InputError
from maskrobust.lm_modules.explanation.explainers.linear import shapley_weights


def test_independent_draws_show_the_share_asked_for():
    z = draw_independent(1, 4000, 20, 0.3)
    np.testing.assert_allclose(z.double().mean(dim=0), 0.3, atol=0.03)
    shares = draw_independent(1, 4000, 200, (0.4, 0.8)).double().mean(dim=1)
    assert 0.48 < shares.quantile(0.25) < 0.52 and 0.68 < shares.quantile(0.75) < 0.72
    assert draw_independent(1, 9, 5, 1.0).all() and not draw_independent(1, 9, 5, 0.0).any()


@pytest.mark.parametrize(("samples", "segments"), [(64, 20), (32, 16), (8, 3)])
def test_the_balanced_design_is_orthogonal_and_folded(samples, segments):
    z = draw_balanced(4, samples, segments)
    signs = 2 * z.long() - 1
    assert torch.equal(z[1::2], ~z[0::2])
    assert torch.equal(signs[0::2].T @ signs[0::2], samples // 2 * torch.eye(segments, dtype=torch.int64))
    assert torch.equal(z.sum(dim=0), torch.full((segments,), samples // 2))


@pytest.mark.parametrize("draw", [draw_independent, draw_balanced, draw_coalitions])
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


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: draw_independent(0, 0, 5), "samples must be at least 1"),
        (lambda: draw_independent(0, 5, 1), "segments must be at least 2"),
        (lambda: draw_independent(0, 5, 5, 1.2), "share must lie in 0 to 1"),
        (lambda: draw_independent(0, 5, 5, (0.9, 0.2)), "share must lie in 0 to 1"),
        (lambda: draw_balanced(0, 100, 20), "power of two from 40 samples on, got 100; take 64"),
        (lambda: draw_balanced(0, 32, 20), "power of two from 40 samples on, got 32; take 64"),
        (lambda: draw_balanced(0, 16, 1), "segments must be at least 2"),
        (lambda: draw_coalitions(0, 2, 5), "samples must be at least 3"),
        (lambda: all_coalitions(17), "at most 16 segments, got 17; use draw_coalitions"),
        (lambda: all_coalitions(1), "segments must be at least 2"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, sentence):
    with pytest.raises(InputError, match=sentence) as refusal:
        call()
    assert "\n" not in str(refusal.value) and str(refusal.value).endswith(".")
