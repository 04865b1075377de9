"""Neighbour padding, and zeros at hidden positions, where the features lie."""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from maskrobust.lm_modules.masking.kernels import launching

_BLOCK = 1024


@dataclass(frozen=True)
class RingMap:
    """The plan of neighbour padding: how far each position is from the nearest visible one.

    Ring r of `functional.neighbour_rings` holds the positions at a Chebyshev distance of r.

    Attributes:
        distances: (B, 1, H, W) uint8, from `distances_up_to` at least the number of rings.
        rings: to fill.
    """

    distances: Tensor
    rings: int

    def fill(self, features: Tensor) -> None:
        """Fill the rings of channels-last features (B, C, H, W), or (B, C, L), where they lie."""
        height, width = (1, *features.shape[2:])[-2:]
        for ring in range(1, self.rings + 1):
            launching.launch_tiles(_fill, features, self.distances, ring, height, width)

    def zero(self, features: Tensor) -> None:
        """See `morphology.PaddingPlan`."""
        launching.launch_tiles(_zero, features, self.distances, 1, self.rings)


def distances_up_to(reach: int, visible: Tensor) -> Tensor:
    """Chebyshev distance of each position to the nearest visible one; `reach` + 1 stands for all that is larger.

    Args:
        reach: at most `kernels.MOST_RINGS`.
        visible: (B, 1, *size) bool.

    Returns:
        (B, 1, *size) uint8.
    """
    distances, rows, stride = visible.contiguous().view(torch.uint8), visible.numel(), 1
    for axis, length in enumerate(visible.shape[:1:-1]):
        nearest, grid = torch.empty_like(distances), (launching.parts(rows, _BLOCK),)
        launching.launch(_nearest, grid, distances, nearest, length, stride, rows, axis == 0, reach, _BLOCK)
        distances, stride = nearest, stride * length
    return distances


def zero_hidden(features: Tensor, visible: Tensor) -> None:
    """0 at the hidden positions of channels-last features (B, C, H, W), where they lie."""
    launching.launch_tiles(_zero, features, visible.contiguous().view(torch.uint8), 0, 0)


@triton.jit
def _nearest(distances, nearest, length, stride, rows, is_mask: tl.constexpr, reach: tl.constexpr, block: tl.constexpr):
    """Chebyshev distance, from that over the axes behind, or a mask: the least of max(distance there, steps)."""
    row = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    place = (row // stride) % length
    least = tl.full((block,), reach + 1, tl.int32)
    for step in range(-reach, reach + 1):
        inside = (row < rows) & (place + step >= 0) & (place + step < length)
        there = tl.load(distances + row + step * stride, mask=inside, other=0 if is_mask else reach + 1).to(tl.int32)
        if is_mask:
            there = tl.where(there != 0, 0, reach + 1)
        least = tl.minimum(least, tl.maximum(there, tl.maximum(step, -step)))
    tl.store(nearest + row, least.to(tl.uint8), mask=row < rows)


@triton.jit
def _fill(
    features, distances, ring, height, width, rows, channels, tile_rows: tl.constexpr, tile_channels: tl.constexpr
):
    """The rows of one ring become the mean of those 3 x 3 neighbours that are visible or in an earlier ring."""
    row = tl.program_id(0).to(tl.int64) * tile_rows + tl.arange(0, tile_rows)
    channel = tl.program_id(1) * tile_channels + tl.arange(0, tile_channels)
    filled = tl.load(distances + row, mask=row < rows, other=255) == ring
    if tl.max(filled.to(tl.int32), axis=0) > 0:
        y, x = (row // width) % height, row % width
        total = tl.zeros(
            (tile_rows, tile_channels), tl.float64 if features.dtype.element_ty == tl.float64 else tl.float32
        )
        count = tl.zeros((tile_rows,), tl.int32)
        for place in range(9):
            down, across = place // 3 - 1, place % 3 - 1
            inside = filled & (y + down >= 0) & (y + down < height) & (x + across >= 0) & (x + across < width)
            other = row + down * width + across
            known = inside & (tl.load(distances + other, mask=inside, other=255) < ring)
            count += known.to(tl.int32)
            where = known[:, None] & (channel < channels)[None]
            total += tl.load(features + other[:, None] * channels + channel[None], mask=where, other=0.0)
        mean = (total / tl.maximum(count, 1)[:, None]).to(features.dtype.element_ty)
        where = filled[:, None] & (channel < channels)[None]
        tl.store(features + row[:, None] * channels + channel[None], mean, mask=where)


@triton.jit
def _zero(features, numbers, low, high, rows, channels, tile_rows: tl.constexpr, tile_channels: tl.constexpr):
    """The rows with a number from `low` to `high` become 0."""
    row = tl.program_id(0).to(tl.int64) * tile_rows + tl.arange(0, tile_rows)
    channel = tl.program_id(1) * tile_channels + tl.arange(0, tile_channels)
    number = tl.load(numbers + row, mask=row < rows, other=0)
    zeroed = (row < rows) & (number >= low) & (number <= high)
    if tl.max(zeroed.to(tl.int32), axis=0) > 0:
        zeros = tl.zeros((tile_rows, tile_channels), features.dtype.element_ty)
        where = zeroed[:, None] & (channel < channels)[None]
        tl.store(features + row[:, None] * channels + channel[None], zeros, mask=where)
