"""Holm's levels by hand, against adjusted p-values, and by how often anything is wrongly rejected."""

import numpy as np
import pytest

from maskrobust.lm_modules.reliance.estimates.comparison import holm_levels

LEVEL = 0.05


def adjusted(p_values: np.ndarray) -> np.ndarray:
    """Holm's adjusted p-values: the running maximum of (m - i + 1) p_(i), at most 1; reject where at most the level."""
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    result = np.empty_like(p_values)
    result[order] = np.minimum(np.maximum.accumulate(factors * p_values[order]), 1.0)
    return result


def rejected(p_values: np.ndarray, level: float = LEVEL) -> np.ndarray:
    return p_values < holm_levels(list(p_values), level)


@pytest.mark.parametrize(
    ("p_values", "divisors"),
    [
        ([0.2], [1]),
        ([0.001, 0.001, 0.001], [3, 2, 1]),
        ([0.04, 0.001, 0.02], [1, 3, 2]),
        ([0.03, 0.001, 0.026], [2, 3, 2]),
        ([0.9, 0.02, 0.5, 0.001], [3, 3, 3, 4]),
        ([0.5, 0.02, 0.9], [3, 3, 3]),
    ],
)
def test_levels_grow_while_hypotheses_are_rejected_and_stay_where_that_ends(
    p_values: list[float], divisors: list[int]
) -> None:
    assert holm_levels(p_values, LEVEL) == pytest.approx([LEVEL / divisor for divisor in divisors])


@pytest.mark.parametrize("seed", range(5))
def test_a_p_value_below_its_level_is_one_whose_adjusted_value_is_below_that_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for count in (1, 2, 3, 6, 10):
        for _ in range(50):
            p_values = rng.beta(0.3, 3, count)
            assert np.array_equal(rejected(p_values), adjusted(p_values) < LEVEL)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1])
def test_a_level_outside_its_range_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match=f"got {level}"):
        holm_levels([0.5], level)
