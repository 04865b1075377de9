"""The mask family `patches`: cells of a grid, hidden at random, as in masked image modelling."""

import torch
from torch import Tensor

from maskrobust.augment.families.registry import draw_hidden_fraction, mask_family
from maskrobust.augment.random import fold_in, permutation, uniform
from maskrobust.errors import check_at_least


def _check_patch_size(patch_size: int | tuple[int, int]) -> None:
    check_at_least("patch_size", min(_sides(patch_size)), 1)


@mask_family("patches", check=_check_patch_size)
def patches(
    keys: Tensor,
    height: int,
    width: int,
    *,
    hidden_fraction: tuple[float, float],
    patch_size: int | tuple[int, int] = 16,
    random_offset: bool = False,
) -> Tensor:
    """Hide a random subset of the cells of a grid.

    The grid has ceil(height / patch height) x ceil(width / patch width) cells, those at the lower and right border cut
    off where the patch does not divide the image; a patch larger than the image is one cell. round(fraction x cells)
    cells are hidden, every subset of that size being equally likely: the hidden fraction is exact to a cell.

    With `random_offset` the grid has one row and one column more and is shifted up and to the left by a uniformly drawn
    number of pixels, less than a patch. The number of hidden cells stays exact; the fraction of hidden pixels is exact
    in expectation only, for each pixel is hidden with probability hidden cells / cells, but border cells are cut off.

    Args:
        keys: (B,) int64 keys.
        height: image height in pixels.
        width: image width in pixels.
        hidden_fraction: (low, high) of the fraction of hidden cells, drawn uniformly for each sample.
        patch_size: side of a square cell in pixels, or its (height, width); at least 1.
        random_offset: shift the grid of each sample.

    Returns:
        `visible`, (B, 1, height, width) bool.

    Raises:
        InputError: the range is not 0 <= low <= high <= 1, or patch_size < 1.
    """
    _check_patch_size(patch_size)
    patch_height, patch_width = _sides(patch_size)
    rows, columns = -(-height // patch_height) + random_offset, -(-width // patch_width) + random_offset
    fraction = draw_hidden_fraction(fold_in(keys, 0), hidden_fraction)
    hidden_cells = (fraction * (rows * columns)).round().long()
    rank = permutation(fold_in(keys, 1), rows * columns)
    visible_cells = (rank >= hidden_cells.unsqueeze(1)).reshape(-1, rows, columns)
    if random_offset:
        offset = uniform(fold_in(keys, 2), 2)
        return _draw_shifted(visible_cells, offset, (height, width), (patch_height, patch_width))
    # Each row of cells is drawn once and then repeated as a whole: copying pixel by pixel takes sixty times as long.
    lines = visible_cells.repeat_interleave(patch_width, dim=2)[:, :, :width].contiguous()
    return lines.repeat_interleave(patch_height, dim=1)[:, :height].unsqueeze(1).contiguous()


def _sides(patch_size: int | tuple[int, int]) -> tuple[int, int]:
    return (patch_size, patch_size) if isinstance(patch_size, int) else patch_size


def _draw_shifted(visible_cells: Tensor, offset: Tensor, size: tuple[int, int], patch: tuple[int, int]) -> Tensor:
    """Draw cells (B, rows, columns) with the grid shifted by `offset` (B, 2) in [0, 1) patches."""
    row, column = (
        (torch.arange(size[axis], device=offset.device) + (offset[:, axis, None] * patch[axis]).long()) // patch[axis]
        for axis in (0, 1)
    )
    lines = visible_cells.gather(2, column[:, None].expand(-1, visible_cells.shape[1], -1))
    return take_rows(lines, row).unsqueeze(1)


def take_rows(lines: Tensor, row: Tensor) -> Tensor:
    """Compose images from rows.

    Args:
        lines: (B, N, W), the N different rows of each image.
        row: (B, H) int64 in [0, N), which of them stands where.

    Returns:
        (B, H, W), dtype of `lines`.
    """
    first = torch.arange(len(lines), device=lines.device)[:, None] * lines.shape[1]
    return lines.flatten(0, 1).index_select(0, (first + row).flatten()).reshape(*row.shape, lines.shape[2])
