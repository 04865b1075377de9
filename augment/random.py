"""Random numbers that depend only on a key for each image, not on the batch that the image happens to be in.

Every mask family and every random fill takes `keys`, one int64 per sample. Evaluation derives them from (seed, sample
id), so a mask is the same for any batch size, order, worker, rank or device; training folds the step in as well.
Numbers come from SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014) in
counter mode, computed on whole tensors.
"""

import itertools
import math
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskrobust.augment.batch import check_tensor
from maskrobust.errors import InputError

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

    Raises:
        TypeError: `ids` is no int64 tensor.
    """
    check_tensor("ids", ids)
    if ids.dtype != torch.int64:
        raise TypeError(f"ids must be an int64 tensor of sample ids, got {ids.dtype}; convert it with ids.long().")
    return _mix(fold_in(ids, seed))


def fold_in(keys: Tensor, data: int) -> Tensor:
    """Derive new, independent keys, one stream for each value of `data`.

    Args:
        keys: (...) int64 keys.
        data: any Python integer, for example the position of a draw within a recipe.

    Returns:
        int64 keys of the shape of `keys`.
    """
    bits = _mix_integer(data + _GAMMA)
    return _mix(keys ^ (bits - 2**64 if bits >= 2**63 else bits))


def sample_key(seed: int, sample: int, *data: int) -> int:
    """The key that `sample_keys` gives one sample, then `fold_in` for each of `data`: in Python, many times as fast."""
    key = _mix_integer(_mix_integer(sample ^ _mix_integer(seed + _GAMMA)))
    for each in data:
        key = _mix_integer(key ^ _mix_integer(each + _GAMMA))
    return key - 2**64 if key >= 2**63 else key


def uniform(keys: Tensor, *shape: int) -> Tensor:
    """Uniform numbers in [0, 1), an independent set for each key.

    Args:
        keys: (B,) int64 keys.
        shape: shape of one sample's draw; empty for one number per sample.

    Returns:
        (B, *shape) float32, multiples of 2^-24, on the device of `keys`.
    """
    return _random_24_bits(keys, math.prod(shape)).to(torch.float32).mul_(2.0**-24).reshape(keys.shape[0], *shape)


def draw_uniform(seed: int, ids: Tensor, stream: str, *shape: int) -> NDArray[np.float32]:
    """Uniform numbers in [0, 1) that depend on (seed, id, stream) alone.

    Args:
        seed: any Python integer.
        ids: (N,) int64 sample ids.
        stream: names the purpose; different names give independent numbers.
        shape: shape of one sample's draw; empty for one number per sample.

    Returns:
        (N, *shape) float32.
    """
    return uniform(fold_in(sample_keys(seed, ids), zlib.crc32(stream.encode())), *shape).numpy()


def permutation(keys: Tensor, count: int) -> Tensor:
    """A random order of `count` things for each key: that of `uniform(keys, count)`, of equal numbers the first ahead.

    Args:
        keys: (B,) int64 keys.
        count: at least 0.

    Returns:
        (B, count) int64, each row holding 0 ... count - 1 once, on the device of `keys`.
    """
    # Numbers and positions in one integer each: no two are equal, so that any sort gives the one result.
    bits = _random_24_bits(keys, count)
    numbered = (bits << 32) + torch.arange(count, device=keys.device)
    return numbered.sort(dim=1).values.bitwise_and_(2**32 - 1)


def choose(keys: Tensor, weights: Sequence[float]) -> Tensor:
    """One of several things for each key, with the chances that `weights` give.

    Args:
        keys: (B,) int64 keys.
        weights: weights of the things, at least one of them above 0 and none below; they need not add up to 1.

    Returns:
        (B,) int64 positions in `weights`.

    Raises:
        InputError: a weight is below 0 or not finite, or none is above 0.
    """
    if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
        raise InputError(f"weights must be at least 0, and one of them above 0, got {list(weights)}; change them.")
    *ends, total = itertools.accumulate(map(float, weights))
    numbers, positions = uniform(keys).double() * total, torch.zeros_like(keys)
    for end in ends:
        positions += numbers >= end
    return positions


def _random_24_bits(keys: Tensor, count: int) -> Tensor:
    """Uniformly random integers of 24 bits: (B, count) int64."""
    counters = torch.arange(1, count + 1, device=keys.device) * _GAMMA
    return _logical_shift(_mix(keys.unsqueeze(1) + counters), 40)


def _mix(bits: Tensor) -> Tensor:
    bits = _logical_shift(bits, 30).bitwise_xor_(bits).mul_(_MIX_1)
    bits = _logical_shift(bits, 27).bitwise_xor_(bits).mul_(_MIX_2)
    return _logical_shift(bits, 31).bitwise_xor_(bits)


def _mix_integer(value: int) -> int:
    """`_mix` of one integer modulo 2^64, in [0, 2^64): in Python, several times as fast as a tensor of one number."""
    bits = value % 2**64
    bits = (bits ^ (bits >> 30)) * (_MIX_1 % 2**64) % 2**64
    bits = (bits ^ (bits >> 27)) * (_MIX_2 % 2**64) % 2**64
    return bits ^ (bits >> 31)


def _logical_shift(bits: Tensor, amount: int) -> Tensor:
    return (bits >> amount).bitwise_and_((1 << (64 - amount)) - 1)
