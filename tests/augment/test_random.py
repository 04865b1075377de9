"""Keys and uniform numbers, against SplitMix64 in Python's unbounded integers and against their statistics."""

from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from maskrobust.augment import choose, fold_in, random_keys, sample_keys, uniform

WORD = 2**64
GAMMA = 0x9E3779B97F4A7C15
EXTREMES = [0, 1, 2, -1, -2, 7919, -7919, 2**31, -(2**31), 2**62, -(2**62), 2**63 - 1, -(2**63), -(2**63) + 1]
SEEDS = [*EXTREMES, 2**63, 2**64 - 1, 2**64 + 5, -(2**70)]


def splitmix64(seed: int, count: int) -> list[int]:
    """The first `count` outputs of SplitMix64 as unsigned integers."""
    return [mix((seed + step * GAMMA) % WORD) for step in range(1, count + 1)]


def mix(word: int) -> int:
    """SplitMix64's finaliser."""
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB % WORD
    return word ^ (word >> 31)


def fold(key: int, data: int) -> int:
    """`fold_in` in unsigned integers: data becomes SplitMix64's first output for the seed `data`."""
    return mix((key % WORD) ^ splitmix64(data % WORD, 1)[0])


def unsigned(keys: Tensor) -> list[int]:
    return [int(key) % WORD for key in keys.flatten()]


def independence_p_value(first: Tensor, second: Tensor, bins: int = 8) -> float:
    """Chi-square test that pairs of numbers in [0, 1) are uniform over a bins x bins grid."""
    cells = (first * bins).long() * bins + (second * bins).long()
    return float(stats.chisquare(torch.bincount(cells.flatten(), minlength=bins**2).numpy()).pvalue)


def test_the_reference_yields_the_published_outputs() -> None:
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert splitmix64(1234567, 4) == published
    assert splitmix64(0, 1) == [0xE220A8397B1DCDAF]


def test_uniform_is_the_top_24_bits_of_splitmix64() -> None:
    for key in EXTREMES:
        drawn = uniform(torch.tensor([key]), 9)
        assert drawn.dtype == torch.float32
        assert drawn[0].tolist() == [(output >> 40) / 2**24 for output in splitmix64(key % WORD, 9)]


def test_fold_in_agrees_with_unbounded_integers() -> None:
    for data in SEEDS:
        keys = torch.tensor(EXTREMES)
        assert unsigned(fold_in(keys, data)) == [fold(key, data) for key in EXTREMES]


def test_sample_keys_agree_with_unbounded_integers() -> None:
    for seed in SEEDS:
        assert unsigned(sample_keys(seed, torch.tensor(EXTREMES))) == [mix(fold(key, seed)) for key in EXTREMES]


@pytest.mark.parametrize("batch_size", [0, 1, 5])
def test_uniform_has_one_draw_of_the_given_shape_for_each_key(batch_size: int) -> None:
    for shape in [(), (1,), (0,), (3,), (2, 3), (3, 1, 1)]:
        assert uniform(torch.arange(batch_size), *shape).shape == (batch_size, *shape)


@pytest.mark.parametrize("seed", range(2))
def test_numbers_are_uniform_over_keys_and_over_counters(seed: int) -> None:
    consecutive_ids = torch.arange(20_000) - 10_000
    assert stats.kstest(uniform(sample_keys(seed, consecutive_ids)), "uniform").pvalue > 1e-3
    assert stats.kstest(uniform(consecutive_ids), "uniform").pvalue > 1e-3
    assert stats.kstest(uniform(torch.tensor([seed]), 20_000)[0], "uniform").pvalue > 1e-3
    assert (
        stats.kstest(torch.stack([uniform(fold_in(torch.tensor([seed]), i))[0] for i in range(500)]), "uniform").pvalue
        > 1e-3
    )


@pytest.mark.parametrize("lag", [1, 2, 3, 16])
def test_numbers_are_independent_over_keys_counters_folds_and_seeds(lag: int) -> None:
    keys = sample_keys(5, torch.arange(20_000))
    drawn, over_counters = uniform(keys), uniform(torch.tensor([5]), 20_000)[0]
    assert independence_p_value(drawn[:-lag], drawn[lag:]) > 1e-3
    assert independence_p_value(over_counters[:-lag], over_counters[lag:]) > 1e-3
    assert independence_p_value(uniform(fold_in(keys, 0)), uniform(fold_in(keys, lag))) > 1e-3
    assert independence_p_value(drawn, uniform(fold_in(keys, lag))) > 1e-3
    assert independence_p_value(drawn, uniform(sample_keys(5 + lag, torch.arange(20_000)))) > 1e-3


def test_one_changed_bit_of_a_key_changes_half_of_the_bits() -> None:
    for bit in range(0, 64, 7):
        keys = sample_keys(1, torch.arange(400))
        flipped = keys ^ torch.tensor(1 << bit if bit < 63 else -(2**63))
        changed = [
            (a ^ b).bit_count() for a, b in zip(unsigned(fold_in(keys, 3)), unsigned(fold_in(flipped, 3)), strict=True)
        ]
        assert abs(sum(changed) / 400 - 32) < 5 * 4 / 20


@pytest.mark.parametrize("derive", [lambda ids: sample_keys(9, ids), lambda ids: fold_in(ids, 9)])
def test_distinct_ids_have_distinct_keys(derive: Callable[[Tensor], Tensor]) -> None:
    ids = torch.cat([torch.arange(-50_000, 50_000), torch.arange(100) + 2**62])
    assert len(derive(ids).unique()) == len(ids)


def test_distinct_folds_and_seeds_have_distinct_keys() -> None:
    key = torch.tensor([42])
    assert len(torch.cat([fold_in(key, data) for data in range(-500, 500)]).unique()) == 1000
    assert len(torch.cat([sample_keys(seed, key) for seed in range(-500, 500)]).unique()) == 1000


def test_the_order_of_folds_matters() -> None:
    keys = torch.arange(100)
    assert (fold_in(fold_in(keys, 0), 1) != fold_in(fold_in(keys, 1), 0)).all()


def test_sample_keys_do_not_depend_on_batch_size_or_order() -> None:
    ids = torch.arange(64) * 1_000_003
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    keys = sample_keys(7, ids)
    assert torch.equal(sample_keys(7, ids[order]), keys[order])
    assert torch.equal(torch.cat([sample_keys(7, part) for part in ids.split(5)]), keys)


def test_uniform_does_not_depend_on_batch_size_or_order() -> None:
    keys = sample_keys(7, torch.arange(64))
    assert torch.equal(torch.cat([uniform(part, 3, 2) for part in keys.split(5)]), uniform(keys, 3, 2))
    assert torch.equal(uniform(keys.flip(0), 3), uniform(keys, 3).flip(0))


def test_random_keys_follow_the_generator_alone() -> None:
    generator = torch.Generator().manual_seed(3)
    first, second = random_keys(100, generator), random_keys(100, generator)
    assert torch.equal(random_keys(100, torch.Generator().manual_seed(3)), first)
    assert len(torch.cat([first, second]).unique()) == 200


def test_random_keys_are_uniform_over_the_non_negative_int64() -> None:
    keys = random_keys(20_000, torch.Generator().manual_seed(0))
    assert keys.dtype == torch.int64 and keys.min() >= 0
    assert stats.kstest(keys.double() / 2**63, "uniform").pvalue > 1e-3


class WithoutFloat64(TorchDispatchMode):
    """A device that has no float64."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        assert getattr(result, "dtype", None) != torch.float64, function
        return result


@pytest.mark.parametrize(
    "weights", [[1], [0, 3, 0, 2, 0], [0.1] * 10, [1e-9, 1, 1e9], [1 / 3, 2 / 3], [5e-324, 1e-320]]
)
def test_choices_are_those_of_float64_without_any(weights: list[float]) -> None:
    keys = sample_keys(3, torch.arange(50_000))
    ends = torch.tensor(weights, dtype=torch.float64).cumsum(0)
    expected = torch.searchsorted(ends, uniform(keys).double() * ends[-1].item(), right=True)
    with WithoutFloat64():
        chosen = choose(keys, weights)
    assert torch.equal(chosen, expected.clamp(max=len(weights) - 1))
