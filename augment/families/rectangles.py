"""One rectangle for each image, as in Cutout (DeVries and Taylor, arXiv 1708.04552), lying wholly inside the image."""

import torch
from torch import Tensor

from augment.families.fraction import draw_hidden_fraction
from augment.random import fold_in, uniform


def rectangles(
    keys: Tensor,
    height: int,
    width: int,
    *,
    hidden_fraction: tuple[float, float],
    aspect_ratio: tuple[float, float] = (0.5, 2.0),
) -> Tensor:
    """Hide one axis-aligned rectangle at a uniformly drawn place.

    With area A = fraction x height x width and aspect ratio r (height over width, log-uniform), the sides are
    sqrt(A r) and A / sqrt(A r), rounded to pixels; a side that would leave the image is cut to it and the other grows
    in exchange; one thinner than a pixel becomes a pixel and the other shrinks. The hidden fraction is exact to half a
    row plus half a column of the rectangle.

    Args:
        keys: (B,) int64 keys.
        height: image height in pixels.
        width: image width in pixels.
        hidden_fraction: (low, high) of the share of hidden pixels, drawn uniformly for each sample.
        aspect_ratio: (low, high) of height over width, both above 0.

    Returns:
        `visible`, (B, 1, height, width) bool.

    Raises:
        ValueError: a range is not ordered or leaves its domain.
    """
    low, high = aspect_ratio
    if not 0.0 < low <= high:
        raise ValueError(f"aspect_ratio must be a range 0 < low <= high, got {aspect_ratio}.")
    area = draw_hidden_fraction(fold_in(keys, 0), hidden_fraction) * (height * width)
    ratio = low * (high / low) ** uniform(fold_in(keys, 1))
    rectangle_height = (area * ratio).sqrt().minimum(area).clamp(min=1.0)
    rectangle_height = rectangle_height.maximum(area / width).clamp(max=height).round()
    rectangle_width = (area / rectangle_height).clamp(max=width).round()
    place = uniform(fold_in(keys, 2), 2)
    inside_rows = _inside(place[:, 0], rectangle_height, height)
    inside_columns = _inside(place[:, 1], rectangle_width, width)
    return ~(inside_rows[:, None, :, None] & inside_columns[:, None, None, :])


def _inside(place: Tensor, length: Tensor, size: int) -> Tensor:
    start = (place * (size - length + 1)).floor()
    positions = torch.arange(size, device=place.device)
    return (positions >= start[:, None]) & (positions < (start + length)[:, None])
