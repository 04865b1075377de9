"""The mask family `blobs`: irregular holes of an exact area, made by cutting off smooth noise."""

import torch
from torch import Tensor

from maskrobust.augment.families.mask_family import draw_hidden_fraction, mask_family
from maskrobust.augment.random import fold_in, uniform
from maskrobust.errors import check_at_least

_KNOT_VALUES = 512
_WEIGHT_BITS = 6
_WEIGHT_STEPS = 2**_WEIGHT_BITS
_LEVELS = 4096
_BITS_BELOW_A_LEVEL = 3  # a knot times a weight has 15 bits, a level 12; int16, for memory is what costs time here


def _check_knots(knots: int) -> None:
    check_at_least("knots", knots, 2)


@mask_family("blobs", check=_check_knots)
def blobs(keys: Tensor, height: int, width: int, *, hidden_fraction: tuple[float, float], knots: int = 6) -> Tensor:
    """Hide irregular blobs of exactly round(fraction x height x width) pixels.

    Uniform random integers on a grid of knots x knots, interpolated bilinearly around the torus and shifted by a
    uniformly drawn offset, are cut into 4096 levels; the pixels of the lowest levels are hidden, of the last level the
    first ones in reading order. Because of the shift every pixel is hidden equally often (to within that last level); a
    blob that leaves the image on one side goes on at the opposite one. Everything is computed in integers, so a mask is
    the same on any device.

    Args:
        keys: (B,) int64 keys.
        height: image height in pixels.
        width: image width in pixels.
        hidden_fraction: (low, high) of the fraction of hidden pixels, drawn uniformly for each sample.
        knots: random values along each side, at least 2; more of them make smaller blobs.

    Returns:
        `visible`, (B, 1, height, width) bool.

    Raises:
        InputError: the range is not 0 <= low <= high <= 1, or knots < 2.
    """
    _check_knots(knots)
    fraction = draw_hidden_fraction(fold_in(keys, 0), hidden_fraction)
    hidden_pixels = (fraction.double() * (height * width)).round().long()
    return hide_lowest(_draw_levels(fold_in(keys, 1), height, width, knots), hidden_pixels).unsqueeze(1)


def hide_lowest(levels: Tensor, hidden_pixels: Tensor) -> Tensor:
    """Hide the pixels of the lowest levels, of equal ones the first in reading order.

    Args:
        levels: (B, H, W) int16 in [0, 4096).
        hidden_pixels: (B,) int64 in [0, H x W], how many.

    Returns:
        `visible`, (B, H, W) bool.
    """
    batch_size, height, width = levels.shape
    sample = torch.arange(batch_size, device=levels.device)
    own_bins = levels.int().add_((sample * _LEVELS).int()[:, None, None])
    counts = torch.zeros(batch_size * _LEVELS, dtype=torch.int64, device=levels.device)
    each_once = torch.ones((), dtype=torch.int64, device=levels.device).expand(levels.numel())
    counts.scatter_add_(0, own_bins.flatten().long(), each_once)  # on an accelerator, bincount waits for the largest
    last_level, rest = _split(counts.reshape(batch_size, _LEVELS), hidden_pixels)
    threshold = last_level.to(levels.dtype)[:, None]
    # Subtractions and sign bits instead of comparisons, which torch does not vectorise on a CPU: a tenth of the time.
    differs = (levels - threshold.unsqueeze(2)).bool()
    ties_in_row = width - differs.view(torch.uint8).sum(dim=2, dtype=torch.int32)
    last_row, rest = _split(ties_in_row, rest)
    rows_before = torch.arange(height, device=levels.device) < last_row[:, None]
    visible = ((threshold + rows_before - 1).unsqueeze(2) - levels).bitwise_right_shift_(15).bool()
    mixed_row = last_row.clamp(max=height - 1)
    mixed = levels[sample, mixed_row]
    ties = mixed == threshold
    visible[sample, mixed_row] = (mixed > threshold) | (ties & (ties.cumsum(dim=1) > rest[:, None]))
    return visible


def _split(counts: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """How many leading bins of `counts` (B, N) `total` (B,) fills, and what it takes of the next: two (B,) int64."""
    filled = counts.cumsum(dim=1)
    whole = torch.searchsorted(filled, total[:, None], right=True)
    taken = torch.nn.functional.pad(filled, (1, 0)).gather(1, whole)
    return whole.squeeze(1), total - taken.squeeze(1)


def _draw_levels(keys: Tensor, height: int, width: int, knots: int) -> Tensor:
    """Smooth noise in levels, (B, H, W) int16 in [0, 4096)."""
    values = (uniform(fold_in(keys, 0), knots, knots) * _KNOT_VALUES).short()
    offset = uniform(fold_in(keys, 1), 2)
    row, row_weight = _cells(height, knots, keys.device)
    column, column_weight = _cells(width, knots, keys.device)
    left, right = (values.index_select(2, (column + step) % knots) for step in (0, 1))
    lines = (left * _WEIGHT_STEPS + (right - left) * column_weight) >> _WEIGHT_BITS  # 15 bits with the sign's
    lines = lines.gather(2, _shifted(offset[:, 1], width).unsqueeze(1).expand(-1, knots, -1))
    place = _shifted(offset[:, 0], height)
    field, slope = (_take_rows(each, row[place]) for each in (lines << _WEIGHT_BITS, lines.roll(-1, dims=1) - lines))
    return field.addcmul_(slope, row_weight[place][:, :, None]).bitwise_right_shift_(_BITS_BELOW_A_LEVEL)


def _cells(size: int, knots: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The knot before each of `size` positions, and the weight of the one after it.

    Two (size,) tensors: int64 in [0, knots) and int16 in [0, 64).
    """
    position = torch.arange(size, device=device) * knots
    return position // size, (position % size * _WEIGHT_STEPS // size).short()


def _shifted(offset: Tensor, size: int) -> Tensor:
    """Positions shifted around by `offset` (B,) in [0, 1) of `size`: (B, size) int64."""
    places = torch.arange(size, device=offset.device) + (offset.double() * size).long().unsqueeze(1)
    return places - size * (places >= size)


def _take_rows(lines: Tensor, row: Tensor) -> Tensor:
    """Images (B, H, W) composed of the N different rows of each, (B, N, W); `row` (B, H) says which stands where."""
    first = torch.arange(len(lines), device=lines.device)[:, None] * lines.shape[1]
    return lines.flatten(0, 1).index_select(0, (first + row).flatten()).reshape(*row.shape, lines.shape[2])
