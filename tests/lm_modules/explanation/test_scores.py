"""What the scores of an explanation say, against their formulas, and that rounding noise says nothing."""

import numpy as np
import pytest

from maskrobust.lm_modules.explanation.scores import evenness, shown_scores
from maskrobust.lm_modules.reliance.arrays import rankable


def test_scores_are_even_where_all_segments_count_alike_at_any_scale():
    assert evenness(np.full(9, -0.3)) == pytest.approx(1.0) and np.isnan(evenness(np.zeros(9)))
    assert evenness(np.array([1.0, -1.0, 2.0, -2.0])) == 0.0
    scores = np.random.default_rng(0).normal(1.0, 2.0, 1_000)
    expected = scores.mean() ** 2 / (scores.mean() ** 2 + scores.var())
    assert evenness(scores) == pytest.approx(expected)
    assert evenness(-1e-200 * scores) == pytest.approx(expected)


def test_scores_of_rounding_noise_alone_are_shown_as_0_and_others_as_they_are():
    rng = np.random.default_rng(0)
    noise, scores = 1e-7 * rng.normal(size=9), np.append(rng.normal(size=8), 1e-7)
    shown = shown_scores(np.stack([noise, scores]), axis=1)
    assert not shown[0].any() and np.isnan(evenness(shown[0]))
    assert np.array_equal(shown[1], scores)


@pytest.mark.parametrize("seed", range(4))
def test_rounding_noise_decides_no_rank(seed):
    noise = 1e-15 * np.random.default_rng(seed).normal(size=16)
    few = np.where(np.arange(16) < 3, 1.0, 0.0)  # equal scores where there is an effect, none elsewhere
    assert np.array_equal(rankable(few + noise), rankable(few)) and len(np.unique(few + noise)) > 2
