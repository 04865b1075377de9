"""The fill of random noise, and random numbers for it and others. Its result does not depend on hidden pixels."""

import functools
import math

import torch
from torch import Tensor

from maskrobust.augment.fills.drawing import check_pixels, draw, fill, to_pixels
from maskrobust.augment.random import fold_in

_RANKS = 2**16


@fill("uniform_noise")
def fill_uniform_noise(images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
    """Draw uniform noise into hidden pixels: every pixel and channel independent, (k + 1/2) / 2^16.

    k is a uniformly random integer of 16 bits, which is several times as fast to draw as `maskrobust.augment.uniform`.

    Args:
        images: (B, C, H, W) float in [0, 1] or uint8 in [0, 255].
        visible: (B, 1, H, W) bool.
        keys: (B,) int64 keys.

    Returns:
        (B, C, H, W), dtype of `images`; visible pixels unchanged bit for bit.

    Raises:
        TypeError, InputError: `images` cannot be filled or `visible` does not fit them; see `check_pixels`.
    """
    check_pixels(images, visible)
    noise = (random_ranks(keys, *images.shape[1:]).float() + 0.5).mul_(1 / _RANKS)
    return draw(images, visible, to_pixels(noise, images.dtype))


def gaussian(keys: Tensor, *shape: int) -> Tensor:
    """Standard normal numbers, an independent set for each key.

    Each is the quantile of a random 16-bit integer, looked up in a table: as fast as a copy, the same on any device,
    and within +-4.33.

    Args:
        keys: (B,) int64 keys.
        shape: shape of one sample's draw.

    Returns:
        (B, *shape) float32 on the device of `keys`.
    """
    ranks = random_ranks(keys, *shape)
    quantiles = _quantiles().to(keys.device, non_blocking=True)
    return quantiles.index_select(0, ranks.flatten()).view(ranks.shape)  # a third of the time of quantiles[ranks]


def random_ranks(keys: Tensor, *shape: int) -> Tensor:
    """Uniformly random integers of 16 bits, an independent set for each key; four of them from each draw of 64 bits.

    Args:
        keys: (B,) int64 keys.
        shape: shape of one sample's draw.

    Returns:
        (B, *shape) int32 in [0, 2^16) on the device of `keys`.
    """
    count = math.prod(shape)
    counters = torch.arange((count + 3) // 4, device=keys.device)
    words = fold_in((fold_in(keys, 0).unsqueeze(1) + counters).flatten(), 1)
    ranks = words.view(torch.int16).view(keys.shape[0], 4 * len(counters))
    return (ranks[:, :count].int() + _RANKS // 2).view(keys.shape[0], *shape)


@functools.cache
def _quantiles() -> Tensor:
    """The (k + 1/2) / 2^16 quantile of the standard normal distribution for k = 0 ... 2^16 - 1, float32."""
    probability = (torch.arange(_RANKS, dtype=torch.float64) + 0.5) / _RANKS
    quantiles: Tensor = torch.special.ndtri(probability)
    return quantiles.float()
