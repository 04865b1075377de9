"""Segments hidden one after the other: random or any other order, square patches or superpixels."""

import torch
from torch import Tensor

from maskrobust.augment.families.registry import draw_hidden_fraction
from maskrobust.augment.random import fold_in, permutation
from maskrobust.errors import InputError


def hide_segments(keys: Tensor, segments: Tensor, *, hidden_fraction: tuple[float, float]) -> Tensor:
    """Hide segments in random order until the hidden pixels are nearest to fraction x H x W.

    Args:
        keys: (B,) int64 keys.
        segments: (B, H, W) integers from 0, the segment of each pixel.
        hidden_fraction: (low, high) of the fraction of hidden pixels, drawn uniformly for each sample.

    Returns:
        `visible`, (B, 1, H, W) bool; see `hide_in_order` for what is exact.

    Raises:
        InputError: the range is not 0 <= low <= high <= 1.
    """
    fraction = draw_hidden_fraction(fold_in(keys, 0), hidden_fraction)
    return hide_in_order(segments, random_order(fold_in(keys, 1), segments), fraction.unsqueeze(0))[0]


def hide_in_order(segments: Tensor, order: Tensor, hidden_fractions: Tensor) -> Tensor:
    """Hide whole segments in a given order until the hidden pixels are nearest to fraction x H x W.

    The hidden fraction is exact to half of the segment at which the order is cut; 0 and 1 are exact. Where two cuts are
    equally near, the smaller hole is taken. With n pixels in the segments before one, and m in these and itself, it is
    hidden where the wanted number of pixels is above (n + m) / 2: holes of one order lie within each other.

    Args:
        segments: (B, H, W) integers from 0, the segment of each pixel.
        order: (B, S) int64, every segment of 0 ... S - 1 once, the one to be hidden first in front. Those that do not
            occur in an image may stand anywhere.
        hidden_fractions: (F, B) in [0, 1], the fractions of pixels to hide.

    Returns:
        `visible`, (F, B, 1, H, W) bool.
    """
    labels = segments.flatten(1).long()
    sizes = segment_sums(segments, torch.ones_like(segments), order.shape[1]).gather(1, order)
    after = sizes.cumsum(dim=1)
    turn = torch.empty_like(after).scatter_(1, order, 2 * after - sizes).gather(1, labels)
    wanted = (hidden_fractions.double() * labels.shape[1]).round().long()
    return (2 * wanted.unsqueeze(2) <= turn).reshape(len(wanted), *segments.shape).unsqueeze(2)


def random_order(keys: Tensor, segments: Tensor) -> Tensor:
    """A random order of each image's segments, the same whatever other images are in the batch.

    Args:
        keys: (B,) int64 keys.
        segments: (B, H, W) integers from 0.

    Returns:
        (B, S) int64 for `hide_in_order`; S is 1 more than the largest number in `segments`.
    """
    count = int(segments.max()) + 1 if segments.numel() else 0
    return permutation(keys, count)


def segment_sums(segments: Tensor, values: Tensor, count: int) -> Tensor:
    """Sums over the pixels of each segment.

    Args:
        segments: (B, H, W) integers in [0, count).
        values: (B, H, W) integers or bool, what to add up.
        count: number S of segments.

    Returns:
        (B, S) int64; 0 for a segment that does not occur.
    """
    sums = torch.zeros(len(segments), count, dtype=torch.int64, device=segments.device)
    return sums.scatter_add_(1, segments.flatten(1).long(), values.flatten(1).long())


def patch_segments(height: int, width: int, patch_size: int) -> Tensor:
    """The cells of a grid of square patches as segments, cut off at the lower and right border.

    Args:
        height: image height in pixels.
        width: image width in pixels.
        patch_size: side of a patch in pixels, at least 1.

    Returns:
        (height, width) int64, counted from 0 row by row.

    Raises:
        InputError: patch_size < 1.
    """
    if patch_size < 1:
        raise InputError(f"patch_size must be at least 1 pixel, got {patch_size}; give the side of a patch.")
    row, column = (torch.arange(side) // patch_size for side in (height, width))
    return row[:, None] * -(-width // patch_size) + column
