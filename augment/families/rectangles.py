"""The mask family `rectangles`: rectangular holes, as in Cutout (DeVries and Taylor, arXiv 1708.04552)."""

import torch
from torch import Tensor

from maskrobust.augment.families.mask_family import draw_hidden_fraction, mask_family
from maskrobust.augment.random import fold_in, uniform
from maskrobust.errors import InputError, check_at_least


def _check_options(aspect_ratio: tuple[float, float], count: int) -> None:
    low, high = aspect_ratio
    if not 0.0 < low <= high < float("inf"):
        raise InputError(f"aspect_ratio must be a range 0 < low <= high, got {aspect_ratio}; give such a range.")
    check_at_least("count", count, 1)


@mask_family("rectangles", check=_check_options)
def rectangles(
    keys: Tensor,
    height: int,
    width: int,
    depth: int | None = None,
    *,
    hidden_fraction: tuple[float, float],
    aspect_ratio: tuple[float, float] = (0.5, 2.0),
    count: int = 1,
) -> Tensor:
    """Hide one axis-aligned rectangle, or several that do not overlap, each at a uniformly drawn place.

    With area A = fraction x height x width and aspect ratio r (height over width, log-uniform), the sides are
    sqrt(A r) and A / sqrt(A r), rounded to pixels; a side that would leave the image is cut to it and the other grows
    in exchange; one thinner than a pixel becomes a pixel and the other shrinks. The hidden fraction is exact to half a
    row plus half a column of the rectangle.

    For several, the image is cut into `count` strips of the same size (to a pixel), along its height or its width with
    equal chance, and each strip gets one rectangle that hides the same fraction of it. So they never overlap, every
    fraction up to 1 can be reached, and the hidden fraction is exact to half a row plus half a column of each of them.

    In a volume the rectangle is that of a box, as long as the cube root of the fraction says, rounded to slices, at a
    uniformly drawn place along the depth; the rectangle hides what is left of the fraction.

    Args:
        keys: (B,) int64 keys.
        height: image height in pixels.
        width: image width in pixels.
        depth: of volumes; None for images.
        hidden_fraction: (low, high) of the fraction of hidden pixels, drawn uniformly for each sample.
        aspect_ratio: (low, high) of height over width, both above 0.
        count: number of rectangles, from 1 to the smaller side of the image.

    Returns:
        `visible`, (B, 1, height, width) or (B, 1, depth, height, width) bool.

    Raises:
        InputError: a range is not ordered or leaves its domain, or `count` leaves its own.
    """
    _check_options(aspect_ratio, count)
    if count > min(height, width):
        raise InputError(
            f"count must be at most the smaller side of the image of {height} x {width} pixels, got {count}; draw "
            "fewer rectangles."
        )
    low, high = aspect_ratio
    fraction = draw_hidden_fraction(fold_in(keys, 0), hidden_fraction)
    if depth is not None:
        slices = (fraction ** (1 / 3) * depth).round().clamp(min=1)
        fraction = (fraction * depth / slices).clamp(max=1)
    ratio = low * (high / low) ** uniform(fold_in(keys, 1), count)
    origin, size = _strips(keys, height, width, count)
    length = _side_lengths(fraction.unsqueeze(1), ratio, size)
    start = origin + (uniform(fold_in(keys, 2), count, 2) * (size - length + 1)).floor()
    outside_rows = _outside(start[..., 0], length[..., 0], height).unsqueeze(3)
    outside_columns = _outside(start[..., 1], length[..., 1], width).unsqueeze(2)
    visible = outside_rows[:, 0] | outside_columns[:, 0]
    for another in range(1, count):
        visible &= outside_rows[:, another] | outside_columns[:, another]
    if depth is None:
        return visible.view(torch.bool).unsqueeze(1)
    first = (uniform(fold_in(keys, 4)) * (depth - slices + 1)).floor()
    outside_slices = _outside(first[:, None], slices[:, None], depth)
    return (visible[:, None] | outside_slices[:, 0, :, None, None]).view(torch.bool).unsqueeze(1)


def _strips(keys: Tensor, height: int, width: int, count: int) -> tuple[Tensor, Tensor]:
    """(top, left) and (height, width) of each strip, two float32 tensors that broadcast to (B, count, 2)."""
    size = torch.tensor([height, width]).to(keys.device, non_blocking=True)
    if count == 1:
        return torch.zeros(1, 1, 2, device=keys.device), size.float().reshape(1, 1, 2)
    edges = torch.arange(count + 1, device=keys.device).unsqueeze(1) * size // count
    along_height = (uniform(fold_in(keys, 3)) < 0.5)[:, None, None]
    is_cut = torch.cat([along_height, ~along_height], dim=2)
    origin, length = torch.where(is_cut, edges[:-1], 0), torch.where(is_cut, edges.diff(dim=0), size)
    return origin.float(), length.float()


def _side_lengths(fraction: Tensor, ratio: Tensor, size: Tensor) -> Tensor:
    """(height, width) in whole pixels of rectangles that hide `fraction` (B, 1) of their strips: (B, count, 2)."""
    strip_height, strip_width = size.unbind(dim=2)
    area = fraction * (strip_height * strip_width)
    height = (area * ratio).sqrt().minimum(area).clamp(min=1.0)
    height = height.maximum(area / strip_width).minimum(strip_height).round()
    width = (area / height).minimum(strip_width).round()
    return torch.stack([height, width], dim=2)


def _outside(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Which positions lie outside of intervals (B, count): (B, count, size) uint8, for bool operations are slower."""
    positions = torch.arange(size, device=start.device)
    is_outside = (positions < start.unsqueeze(2)) | (positions >= (start + length).unsqueeze(2))
    return is_outside.view(torch.uint8)
