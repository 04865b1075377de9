"""The mean over pairs that share hosts and donors: its error counts what they share."""

import numpy as np
import pytest

from maskrobust.lm_modules.reliance.estimates.pairs import interval_over_pairs, mean_over_pairs


def slow_variance(values, host, donors):
    """The formula, one who takes part at a time."""
    e, pairs = values - values.mean(), len(values)
    total = -2 * (e**2).sum()
    for role in (host[:, None], donors):
        for one in np.unique(role):
            theirs = (role == one).any(axis=1)
            total += (e[theirs].sum() / (1 - min(theirs.mean(), 0.5))) ** 2
    n = min(len(np.unique(host)), len(np.unique(donors)))
    return max(total, (e**2).sum()) * n / (n - 1) / pairs**2


def drawn(seed, count, spread=1.0):
    """Two pairs for each of so many hosts, with effects of the donors of the given spread."""
    rng = np.random.default_rng(seed)
    host = np.arange(count).repeat(2)
    donors = np.array([rng.choice(count, 2, replace=False) for _ in host])
    effect = spread * rng.normal(size=count)
    return effect[donors].sum(axis=1) + rng.normal(size=2 * count), host, donors


@pytest.mark.parametrize("seed", range(5))
def test_the_variance_is_that_of_the_formula(seed):
    values, host, donors = drawn(seed, 12)
    found = mean_over_pairs(values, host, donors)
    assert found.value == pytest.approx(values.mean())
    assert found.objects.variance == pytest.approx(slow_variance(values, host, donors))
    assert found.objects.degrees == 5.0 and found.seeds.variance == 0.0


def test_intervals_of_nineteen_in_twenty_hold_the_truth_and_those_of_independent_pairs_do_not():
    held, naive = 0, 0
    for seed in range(400):
        values, host, donors = drawn(seed, 40, spread=2.0)
        _, low, high = mean_over_pairs(values, host, donors).interval()
        held += low <= 0.0 <= high
        naive += abs(values.mean()) <= 1.96 * values.std() / np.sqrt(len(values))
    assert 0.93 <= held / 400 <= 0.99
    assert naive / 400 < 0.85


def test_seeds_add_to_the_error():
    values, host, donors = drawn(0, 12)
    found = mean_over_pairs(np.stack([values, values + 1.0]), host, donors)
    assert found.value == pytest.approx(values.mean() + 0.5)
    assert found.seeds.variance == pytest.approx(0.25)
    assert found.objects.variance == pytest.approx(mean_over_pairs(values, host, donors).objects.variance)


def test_equal_values_of_few_pairs_are_not_certain():
    host, donors = np.arange(20), np.stack([np.arange(20), (np.arange(20) + 1) % 20], axis=1)
    reach = 1 - 0.025 ** (1 / 20)
    assert interval_over_pairs(np.zeros(20), -1.0, 1.0, host, donors) == pytest.approx((0.0, -reach, reach))
    assert interval_over_pairs(np.ones(20), -1.0, 1.0, host, donors) == pytest.approx((1.0, 1.0 - 2 * reach, 1.0))
