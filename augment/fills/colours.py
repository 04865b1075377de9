"""Fills of one colour (black, mean, random colour, ...). Their result does not depend on hidden pixels."""

from collections.abc import Sequence

import torch
from torch import Tensor

from maskrobust.augment.fills.drawing import check_pixels, draw, fill, to_pixels
from maskrobust.augment.random import uniform
from maskrobust.errors import InputError


@fill("black")
def fill_black(images: Tensor, visible: Tensor) -> Tensor:
    """Draw 0 into hidden pixels.

    Args:
        images: (B, C, H, W) float in [0, 1] or uint8 in [0, 255].
        visible: (B, 1, H, W) bool.

    Returns:
        (B, C, H, W), dtype of `images`; visible pixels unchanged bit for bit.

    Raises:
        TypeError, InputError: `images` cannot be filled or `visible` does not fit them; see `check_pixels`.
    """
    check_pixels(images, visible)
    return draw(images, visible, torch.zeros((), dtype=images.dtype, device=images.device))


@fill("mean")
def fill_mean(images: Tensor, visible: Tensor, mean: Sequence[float]) -> Tensor:
    """Draw the dataset's mean colour into hidden pixels.

    Args:
        images: (B, C, H, W) float in [0, 1] or uint8 in [0, 255].
        visible: (B, 1, H, W) bool.
        mean: one value in [0, 1] for each of the C channels.

    Returns:
        (B, C, H, W), dtype of `images`; visible pixels unchanged bit for bit.

    Raises:
        TypeError, InputError: `images` cannot be filled or `visible` does not fit them; see `check_pixels`.
        InputError: `mean` has not one value for each channel.
    """
    check_pixels(images, visible)
    return draw(images, visible, to_pixels(mean_colour(images, mean), images.dtype))


@fill("image_mean")
def fill_image_mean(images: Tensor, visible: Tensor, mean: Sequence[float]) -> Tensor:
    """Draw the mean colour of an image's visible pixels into its hidden ones.

    The mean is taken over visible pixels only, so that it tells nothing about what is hidden.

    Args:
        images: (B, C, H, W) float in [0, 1] or uint8 in [0, 255].
        visible: (B, 1, H, W) bool.
        mean: drawn where nothing is visible: one value in [0, 1] for each of the C channels.

    Returns:
        (B, C, H, W), dtype of `images`; visible pixels unchanged bit for bit. The colour carries no gradient.

    Raises:
        TypeError, InputError: `images` cannot be filled or `visible` does not fit them; see `check_pixels`.
        InputError: `mean` has not one value for each channel.
    """
    check_pixels(images, visible)
    return draw(images, visible, to_pixels(visible_mean(images, visible, mean), images.dtype))


@fill("random_colour")
def fill_random_colour(images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
    """Draw one uniformly random colour for each image into its hidden pixels.

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
    return draw(images, visible, to_pixels(uniform(keys, images.shape[1], 1, 1), images.dtype))


def check_mean(mean: Sequence[float]) -> None:
    """Refuse a colour that leaves [0, 1].

    Raises:
        InputError: naming the colour given.
    """
    if not all(0 <= value <= 1 for value in mean):
        raise InputError(f"mean must be a colour in [0, 1], got {tuple(mean)}; divide values in [0, 255] by 255.")


def mean_colour(images: Tensor, mean: Sequence[float]) -> Tensor:
    """The dataset's mean colour: (1, C, 1, 1) float64 in [0, 1], on the device of `images`.

    Raises:
        InputError: `mean` has not one value in [0, 1] for each of the C channels of `images`.
    """
    check_mean(mean)
    if len(mean) != images.shape[1]:
        raise InputError(
            f"mean must have one value for each of {images.shape[1]} channels, got {len(mean)}; give as many."
        )
    return torch.tensor(mean, dtype=torch.float64).to(images.device, non_blocking=True)[None, :, None, None]


@torch.no_grad()
def visible_mean(images: Tensor, visible: Tensor, mean: Sequence[float]) -> Tensor:
    """The mean colour of each image's visible pixels, from a sum in float64, or an exact one of bytes.

    Args:
        images: (B, C, H, W) float in [0, 1] or uint8 in [0, 255].
        visible: (B, 1, H, W) bool.
        mean: the colour of an image of which nothing is visible, one value for each channel.

    Returns:
        (B, C, 1, 1) float64 in [0, 1].

    Raises:
        InputError: `mean` has not one value for each of the C channels.
    """
    otherwise = mean_colour(images, mean)
    black = torch.zeros((), dtype=images.dtype, device=images.device)
    shown = draw(images, visible, black).flatten(2)
    # Integers are exact and take a third of the time, as far as they hold the sum.
    precision = torch.int32 if images.dtype == torch.uint8 and shown.shape[2] < 2**23 else torch.float64
    total = shown.sum(dim=2, dtype=precision).double()[:, :, None, None]
    count = visible.sum(dim=(2, 3), keepdim=True)
    white = 255 if images.dtype == torch.uint8 else 1
    return torch.where(count > 0, total / (count.clamp(min=1) * white), otherwise)
