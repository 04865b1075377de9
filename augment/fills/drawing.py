"""Drawing into the hole: the one place where visible pixels and a fill come together.

Pixels are float in [0, 1] or uint8 in [0, 255]; every fill is computed as numbers in [0, 1].
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskrobust.augment.batch import check_visible, in_unit_range
from maskrobust.augment.random import is_on_cpu

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_CHUNK = 2**19  # bytes


def check_pixels(images: Tensor, visible: Tensor) -> None:
    """Refuse what cannot be filled, before anything is computed with it.

    Args:
        images: must be (B, C, H, W), float or uint8.
        visible: must be (B, 1, H, W), bool, on the same device.

    Raises:
        TypeError, InputError: `visible` does not fit `images`; see `maskrobust.augment.check_visible`.
        TypeError: `images` is neither float nor uint8.
    """
    check_visible(images, visible)
    if not (images.is_floating_point() or images.dtype == torch.uint8):
        raise TypeError(
            f"images must be float in [0, 1] or uint8 in [0, 255], got {images.dtype}; convert them to one of the two."
        )


def from_pixels(images: Tensor) -> Tensor:
    """Pixels as float32 numbers in [0, 1], or float64 ones where they are float64."""
    numbers = in_unit_range(images)
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32))


def to_pixels(numbers: Tensor, dtype: torch.dtype) -> Tensor:
    """Float numbers in [0, 1] as pixels: round(255 x), limited to [0, 255], for uint8, the nearest float otherwise."""
    if dtype == torch.uint8:
        return (numbers * 255).round_().clamp_(0, 255).to(torch.uint8)
    return numbers.to(dtype)


def draw(images: Tensor, visible: Tensor, fill: Tensor) -> Tensor:
    """`images` where `visible`, `fill` elsewhere.

    The choice is made on the bits behind the numbers, fill ^ ((images ^ fill) & visible): on a CPU that is faster than
    `torch.where` with a condition that is broadcast over channels, and as exact (NaN, -0.0).

    Args:
        images: (B, C, H, W) float or uint8.
        visible: (B, 1, H, W) bool.
        fill: dtype of `images`, broadcastable to their shape; carries no gradient.

    Returns:
        (B, C, H, W), dtype and memory format of `images`. Its gradient is 1 where visible and 0 in the hole.
    """
    if images.requires_grad and torch.is_grad_enabled():
        return torch.where(visible, images, fill)
    integers = _INTEGERS[images.element_size()]
    if is_on_cpu(images):
        pixels, drawn = (each.detach().view(integers).numpy() for each in (images, fill))
        return torch.from_numpy(_drawn(pixels, visible.numpy().view(np.int8), drawn)).view(images.dtype)
    bits, keep = fill.view(integers), visible.to(integers).neg_()
    return (images.view(integers) ^ bits).bitwise_and_(keep).bitwise_xor_(bits).view(images.dtype)


def _drawn(pixels: NDArray[Any], visible: NDArray[np.int8], fill: NDArray[Any]) -> NDArray[Any]:
    """`draw` of integers, a few images at a time, which stay in the cache between the operations."""
    drawn = np.empty_like(pixels)
    images = max(1, _CHUNK // max(1, pixels[:1].nbytes))
    is_zero = fill.size == 1 and not fill.any()
    fill = np.broadcast_to(fill, pixels.shape)
    for start in range(0, len(pixels), images):
        part = slice(start, start + images)
        keep = np.negative(visible[part]).astype(pixels.dtype, copy=False)
        if is_zero:
            np.bitwise_and(pixels[part], keep, out=drawn[part])
            continue
        np.bitwise_xor(pixels[part], fill[part], out=drawn[part])
        np.bitwise_and(drawn[part], keep, out=drawn[part])
        np.bitwise_xor(drawn[part], fill[part], out=drawn[part])
    return drawn
