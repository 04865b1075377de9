"""Irregular holes of an exact area: smooth noise, cut off at its own k-th value."""

import torch
from torch import Tensor

from maskrobust.augment.families.fraction import draw_hidden_fraction
from maskrobust.augment.families.registry import mask_family
from maskrobust.augment.families.rows import take_rows
from maskrobust.augment.random import fold_in, uniform
from maskrobust.errors import InputError

_KNOT_VALUES = 512
_WEIGHT_STEPS = 64
_LEVELS = 4096
_CPU_IMAGES = 16  # of more images, intermediate results are too large to be kept for reuse, and take thrice as long
_BITS_BELOW_A_LEVEL = 3  # a knot times a weight has 15 bits, a level 12; int16, for memory is what costs time here


def _check_knots(knots: int) -> None:
    if knots < 2:
        raise InputError(f"knots must be at least 2, got {knots}; give more for smaller blobs.")


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
    at_once = _CPU_IMAGES if keys.device.type == "cpu" else max(1, len(keys))
    parts = zip(fold_in(keys, 1).split(at_once), hidden_pixels.split(at_once), strict=True)
    visible = [hide_lowest(_noise_levels(part, height, width, knots), pixels) for part, pixels in parts]
    return torch.cat(visible).unsqueeze(1)


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
    counts = _histogram(own_bins.flatten(), batch_size * _LEVELS).reshape(batch_size, _LEVELS)
    last_level, rest = _split(counts, hidden_pixels)
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


def _noise_levels(keys: Tensor, height: int, width: int, knots: int) -> Tensor:
    """Interpolated noise: (B, height, width) int16 in [0, 4096)."""
    values = (uniform(fold_in(keys, 0), knots, knots) * _KNOT_VALUES).int()
    offset = uniform(fold_in(keys, 1), 2)
    row, row_weight = _cells(offset[:, 0], height, knots)
    column, column_weight = _cells(offset[:, 1], width, knots)
    left, right = (_take_columns(values, (column + step) % knots) for step in (0, 1))
    lines = (left * (_WEIGHT_STEPS - column_weight[:, None]) + right * column_weight[:, None]) // _WEIGHT_STEPS
    field = take_rows((lines * _WEIGHT_STEPS).short(), row)
    slope = take_rows((lines.roll(-1, dims=1) - lines).short(), row)
    return field.addcmul_(slope, row_weight[:, :, None].short()).bitwise_right_shift_(_BITS_BELOW_A_LEVEL)


def _cells(offset: Tensor, size: int, knots: int) -> tuple[Tensor, Tensor]:
    """The knot before each position, shifted by `offset` (B,) in [0, 1), and the weight of the one after it.

    Two (B, size) tensors: int64 in [0, knots) and int32 in [0, 64).
    """
    shift = (offset.double() * size).long()[:, None]
    position = (torch.arange(size, device=offset.device) + shift) % size * knots
    return position // size, (position % size * _WEIGHT_STEPS // size).int()


def _take_columns(values: Tensor, column: Tensor) -> Tensor:
    return values.gather(2, column[:, None].expand(-1, values.shape[1], -1))


def _histogram(values: Tensor, size: int) -> Tensor:
    """How often each integer in [0, size) comes, (size,) int64; on an accelerator `bincount` waits for the largest."""
    if _may_ask(values.device):
        return values.bincount(minlength=size)
    ones = torch.ones(1, dtype=torch.int64, device=values.device)
    return torch.zeros(size, dtype=torch.int64, device=values.device).scatter_add_(
        0, values.long(), ones.expand_as(values)
    )


def _may_ask(device: torch.device) -> bool:
    return device.type == "cpu"
