"""Fills by name, for configuration files and tables."""

from collections.abc import Sequence
from typing import Literal, assert_never, get_args

from torch import Tensor

from maskrobust.augment.fills.blur import fill_blur
from maskrobust.augment.fills.colours import fill_black, fill_image_mean, fill_mean, fill_random_colour
from maskrobust.augment.fills.inpainting import fill_inpainting
from maskrobust.augment.fills.linear_imputation import fill_linear_imputation
from maskrobust.augment.fills.noise import fill_gaussian_noise, fill_uniform_noise

FillName = Literal[
    "black",
    "mean",
    "image_mean",
    "random_colour",
    "uniform_noise",
    "gaussian_noise",
    "blur",
    "linear_imputation",
    "inpainting",
]
FILLS: tuple[FillName, ...] = get_args(FillName)

LOOKS_INTO_HOLE: frozenset[FillName] = frozenset({"blur"})
"""The fills whose result depends on what was hidden; all others would draw the same over anything."""


def apply_fill(name: FillName, images: Tensor, visible: Tensor, *, keys: Tensor, mean: Sequence[float]) -> Tensor:
    """Draw the fill `name` into hidden pixels.

    What is drawn for an image depends on its key, its pixels and its `visible` alone, not on the rest of the batch.

    Args:
        name: one of `FILLS`.
        images: (B, C, H, W) float in [0, 1] or uint8 in [0, 255].
        visible: (B, 1, H, W) bool.
        keys: (B,) int64 keys, used by random fills.
        mean: the data set's mean colour in [0, 1], one value for each channel, used by "mean", and where nothing is
            visible by "image_mean", "linear_imputation" and "inpainting".

    Returns:
        (B, C, H, W), dtype of `images`; visible pixels unchanged bit for bit. The gradient with respect to `images` is
        1 where visible and 0 in the hole: what is drawn carries none.

    Raises:
        TypeError, InputError: `images` cannot be filled or `visible` does not fit them; see `check_pixels`.
        InputError: `mean` has not one value for each channel.
    """
    match name:
        case "black":
            filled = fill_black(images, visible)
        case "mean":
            filled = fill_mean(images, visible, mean)
        case "image_mean":
            filled = fill_image_mean(images, visible, mean)
        case "random_colour":
            filled = fill_random_colour(images, visible, keys)
        case "uniform_noise":
            filled = fill_uniform_noise(images, visible, keys)
        case "gaussian_noise":
            filled = fill_gaussian_noise(images, visible, keys)
        case "blur":
            filled = fill_blur(images, visible)
        case "linear_imputation":
            filled = fill_linear_imputation(images, visible, keys, mean)
        case "inpainting":
            filled = fill_inpainting(images, visible, mean)
        case _:
            assert_never(name)
    return filled
