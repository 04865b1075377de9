"""Drawing into the hole: the one place where visible pixels and a fill come together.

Pixels are float in [0, 1] or uint8 in [0, 255]; every fill is computed as numbers in [0, 1].
"""

import numpy as np
import torch
from torch import Tensor

from maskrobust.augment.batch import check_visible, in_unit_range
from maskrobust.augment.random import is_on_cpu

_MOST_CHANNELS = 512  # of an image in OpenCV


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
    """`images` where `visible`, `fill` elsewhere, bit for bit (NaN, -0.0): `torch.where`, or what is faster on a CPU.

    Args:
        images: (B, C, H, W) float or uint8.
        visible: (B, 1, H, W) bool.
        fill: dtype of `images`, broadcastable to their shape; carries no gradient.

    Returns:
        (B, C, H, W), dtype and memory format of `images`. Its gradient is 1 where visible and 0 in the hole.
    """
    needs_gradient = images.requires_grad and torch.is_grad_enabled()
    if needs_gradient or not is_on_cpu(images) or not images.numel() or images.shape[1] > _MOST_CHANNELS:
        return torch.where(visible, images, fill)
    return _draw_by_opencv(images.detach(), visible, fill.detach())


def _draw_by_opencv(images: Tensor, visible: Tensor, fill: Tensor) -> Tensor:
    """One pass copies the visible pixels over the fill: over a whole batch in channels-last format, else by planes."""
    import cv2

    is_last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    memory_format = torch.channels_last if is_last else torch.contiguous_format
    drawn = torch.empty_like(images, memory_format=memory_format)
    if fill.shape[2:] == (1, 1):  # a colour's whole rows are copied several times as fast as its pixels
        fill = fill.expand(-1, -1, -1, images.shape[3]).contiguous(memory_format=memory_format)
    drawn.copy_(fill)
    source, target = (each.view(torch.int16) if each.element_size() == 2 else each for each in (images, drawn))
    kept = visible.numpy().view(np.uint8)
    if is_last:
        height, width = len(images) * images.shape[2], images.shape[3]
        pixels, canvas = (each.permute(0, 2, 3, 1).reshape(height, width, -1).numpy() for each in (source, target))
        cv2.copyTo(pixels, kept.reshape(height, width), canvas)
        return drawn
    for planes, keep, canvas in zip(source.numpy(), kept[:, 0], target.numpy(), strict=True):
        for channel, plane in enumerate(planes):
            cv2.copyTo(plane, keep, canvas[channel])
    return drawn
