"""Fills by name, for configuration files and tables."""

from collections.abc import Sequence
from typing import Literal, assert_never, get_args

from torch import Tensor

from augment.fills.colours import fill_black, fill_mean, fill_random_colour

FillName = Literal["black", "mean", "random_colour"]
FILLS: tuple[FillName, ...] = get_args(FillName)


def apply_fill(name: FillName, images: Tensor, visible: Tensor, *, keys: Tensor, mean: Sequence[float]) -> Tensor:
    """Draw the fill `name` into hidden pixels.

    Args:
        name: one of `FILLS`.
        images: (B, C, H, W) float in [0, 1].
        visible: (B, 1, H, W) bool.
        keys: (B,) int64 keys, used by random fills.
        mean: the data set's mean colour in [0, 1], one value for each channel, used by "mean".

    Returns:
        (B, C, H, W), dtype of `images`; visible pixels unchanged bit for bit.

    Raises:
        TypeError, ValueError: `visible` does not fit `images`; see `augment.check_visible`.
        ValueError: `mean` has not one value for each channel.
    """
    match name:
        case "black":
            return fill_black(images, visible)
        case "mean":
            return fill_mean(images, visible, mean)
        case "random_colour":
            return fill_random_colour(images, visible, keys)
        case _:
            assert_never(name)
