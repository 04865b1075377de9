"""Fills of one colour. None of them looks into the hole: the result does not depend on what hidden pixels held."""

from collections.abc import Sequence

import torch
from torch import Tensor

from augment.batch import check_visible
from augment.random import uniform


def fill_black(images: Tensor, visible: Tensor) -> Tensor:
    """Draw 0 into hidden pixels.

    Args:
        images: (B, C, H, W) float in [0, 1].
        visible: (B, 1, H, W) bool.

    Returns:
        (B, C, H, W), dtype of `images`; visible pixels unchanged bit for bit.

    Raises:
        TypeError, ValueError: `visible` does not fit `images`; see `check_visible`.
    """
    check_visible(images, visible)
    return torch.where(visible, images, torch.zeros((), dtype=images.dtype, device=images.device))


def fill_mean(images: Tensor, visible: Tensor, mean: Sequence[float]) -> Tensor:
    """Draw the data set's mean colour into hidden pixels.

    Args:
        images: (B, C, H, W) float in [0, 1].
        visible: (B, 1, H, W) bool.
        mean: one value in [0, 1] for each of the C channels.

    Returns:
        (B, C, H, W), dtype of `images`; visible pixels unchanged bit for bit.

    Raises:
        TypeError, ValueError: `visible` does not fit `images`; see `check_visible`.
        ValueError: `mean` has not one value for each channel.
    """
    check_visible(images, visible)
    if len(mean) != images.shape[1]:
        raise ValueError(f"mean must have one value for each of {images.shape[1]} channels, got {len(mean)}.")
    colour = torch.tensor(mean, dtype=images.dtype, device=images.device)[None, :, None, None]
    return torch.where(visible, images, colour)


def fill_random_colour(images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
    """Draw one uniformly random colour for each image into its hidden pixels.

    Args:
        images: (B, C, H, W) float in [0, 1].
        visible: (B, 1, H, W) bool.
        keys: (B,) int64 keys.

    Returns:
        (B, C, H, W), dtype of `images`; visible pixels unchanged bit for bit.

    Raises:
        TypeError, ValueError: `visible` does not fit `images`; see `check_visible`.
    """
    check_visible(images, visible)
    colour = uniform(keys, images.shape[1], 1, 1).to(images.dtype)
    return torch.where(visible, images, colour)
