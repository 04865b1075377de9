"""Keys and uniform numbers against SplitMix64, choices and orders against torch's operations."""

import numpy as np
import pytest
import torch

from maskrobust.augment import choose, fold_in, sample_keys, uniform
from maskrobust.augment.random import permutation, sample_key

WORD = 2**64
GAMMA = 0x9E3779B97F4A7C15
EXTREMES = [0, 1, 2, -1, -2, 7919, -7919, 2**31, -(2**31), 2**62, -(2**62), 2**63 - 1, -(2**63), -(2**63) + 1]
SEEDS = [*EXTREMES, 2**63, 2**64 - 1, 2**64 + 5, -(2**70)]


def splitmix64(seed, count):
    """The first `count` outputs of SplitMix64 as unsigned integers."""
    return [mix((seed + step * GAMMA) % WORD) for step in range(1, count + 1)]


def mix(word):
    """SplitMix64's finaliser."""
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB % WORD
    return word ^ (word >> 31)


def fold(key, data):
    """`fold_in` in unsigned integers: data becomes SplitMix64's first output for the seed `data`."""
    return mix((key % WORD) ^ splitmix64(data % WORD, 1)[0])


def unsigned(keys):
    return [int(key) % WORD for key in keys.flatten()]


def test_the_reference_yields_the_published_outputs():
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert splitmix64(1234567, 4) == published
    assert splitmix64(0, 1) == [0xE220A8397B1DCDAF]


def test_uniform_is_the_top_24_bits_of_splitmix64():
    for key in EXTREMES:
        drawn = uniform(torch.tensor([key]), 9)
        assert drawn.dtype == torch.float32
        assert drawn[0].tolist() == [(output >> 40) / 2**24 for output in splitmix64(key % WORD, 9)]
        assert torch.equal(uniform(torch.tensor([key]), 3, 1, 3).flatten(), drawn[0])
    assert uniform(torch.arange(0), 2).shape == (0, 2) and uniform(torch.arange(5)).shape == (5,)


def test_fold_in_agrees_with_unbounded_integers():
    for data in SEEDS:
        keys = torch.tensor(EXTREMES)
        assert unsigned(fold_in(keys, data)) == [fold(key, data) for key in EXTREMES]


def test_sample_keys_agree_with_unbounded_integers():
    for seed in SEEDS:
        keys = sample_keys(seed, torch.tensor(EXTREMES))
        assert unsigned(keys) == [mix(fold(key, seed)) for key in EXTREMES]
        assert keys.tolist() == [sample_key(seed, key) for key in EXTREMES]
        assert fold_in(fold_in(keys, 5), seed).tolist() == [sample_key(seed, key, 5, seed) for key in EXTREMES]


@pytest.mark.parametrize(
    "weights", [[1], [0, 3, 0, 2, 0], [0.1] * 10, [1e-9, 1, 1e9], [1 / 3, 2 / 3], [5e-324, 1e-320]]
)
def test_choices_are_those_of_a_search_in_the_sums_of_weights(weights):
    keys = sample_keys(3, torch.arange(50_000))
    ends = torch.tensor(weights, dtype=torch.float64).cumsum(0)
    expected = torch.searchsorted(ends, uniform(keys).double() * ends[-1].item(), right=True)
    assert torch.equal(choose(keys, weights), expected.clamp(max=len(weights) - 1))


TWELVE = sample_keys(3, torch.arange(12))


@pytest.mark.parametrize("count", [0, 1, 300])
def test_a_permutation_is_the_stable_order_of_uniform_numbers(count):
    assert torch.equal(permutation(TWELVE, count), uniform(TWELVE, count).argsort(dim=1, stable=True))


@pytest.mark.parametrize(
    ("ids", "named"), [([0, 1], "builtins.list"), (np.arange(2), "numpy.ndarray"), (torch.ones(2), "float32")]
)
def test_ids_that_are_no_int64_tensor_are_refused_by_their_type(ids, named):
    with pytest.raises(TypeError, match=f"^ids must be a.* tensor.*, got .*{named}; convert it"):
        sample_keys(0, ids)
