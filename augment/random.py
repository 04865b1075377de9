"""Random numbers that depend on a sample's key alone, not on the batch it happens to be in.

Every mask family and every random fill takes `keys`, one int64 per sample. Evaluation derives them from (seed, sample
id), so a mask is the same for any batch size, order, worker, rank or device; training draws them from a
`torch.Generator`. Numbers come from SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014) in counter mode, computed on whole tensors.
"""

import math

import torch
from torch import Tensor

_GAMMA = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def sample_keys(seed: int, ids: Tensor) -> Tensor:
    """Keys for evaluation: a function of (seed, sample id) alone.

    Args:
        seed: any Python integer; taken modulo 2^64.
        ids: (B,) int64 sample ids.

    Returns:
        (B,) int64 keys on the device of `ids`.
    """
    return _mix(fold_in(ids, seed))


def random_keys(batch_size: int, generator: torch.Generator) -> Tensor:
    """Keys for training, drawn from a generator.

    Args:
        batch_size: number of samples B.
        generator: advanced by B draws; its device is the result's device.

    Returns:
        (B,) int64 keys, uniform over [0, 2^63 - 1).
    """
    return torch.randint(2**63 - 1, (batch_size,), generator=generator, device=generator.device)


def fold_in(keys: Tensor, data: int) -> Tensor:
    """Derive new, independent keys, one stream for each value of `data`.

    Args:
        keys: (...) int64 keys.
        data: any Python integer, for example the position of a draw within a recipe.

    Returns:
        int64 keys of the shape of `keys`.
    """
    offset = torch.tensor(_to_signed(data), dtype=torch.int64, device=keys.device)
    return _mix(keys ^ _mix(offset + _GAMMA))


def uniform(keys: Tensor, *shape: int) -> Tensor:
    """Uniform numbers in [0, 1), an independent set for each key.

    Args:
        keys: (B,) int64 keys.
        shape: shape of one sample's draw; empty for one number per sample.

    Returns:
        (B, *shape) float32, multiples of 2^-24, on the device of `keys`.
    """
    counters = torch.arange(1, math.prod(shape) + 1, device=keys.device) * _GAMMA
    bits = _mix(keys.unsqueeze(1) + counters)
    numbers = _logical_shift(bits, 40).to(torch.float32) * 2.0**-24
    return numbers.reshape(keys.shape[0], *shape)


def _mix(bits: Tensor) -> Tensor:
    bits = (bits ^ _logical_shift(bits, 30)) * _MIX_1
    bits = (bits ^ _logical_shift(bits, 27)) * _MIX_2
    return bits ^ _logical_shift(bits, 31)


def _logical_shift(bits: Tensor, amount: int) -> Tensor:
    return (bits >> amount) & ((1 << (64 - amount)) - 1)


def _to_signed(value: int) -> int:
    value %= 2**64
    return value - 2**64 if value >= 2**63 else value
