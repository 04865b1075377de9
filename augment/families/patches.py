"""The mask family `patches`: cells of a grid, hidden at random, as in masked image modelling."""

import math

from torch import Tensor

from maskrobust.augment.families.mask_family import draw_hidden_fraction, mask_family
from maskrobust.augment.random import fold_in, permutation
from maskrobust.errors import InputError, check_at_least


def _check_patch_size(patch_size: int | tuple[int, ...]) -> None:
    check_at_least("patch_size", patch_size if isinstance(patch_size, int) else min(patch_size), 1)


@mask_family("patches", check=_check_patch_size)
def patches(
    keys: Tensor,
    height: int,
    width: int,
    depth: int | None = None,
    *,
    hidden_fraction: tuple[float, float],
    patch_size: int | tuple[int, ...] = 16,
) -> Tensor:
    """Hide a random subset of the cells of a grid.

    The grid has ceil(height / patch height) x ceil(width / patch width) cells, those at the lower and right border cut
    off where the patch does not divide the image; a patch larger than the image is one cell. round(fraction x cells)
    cells are hidden, every subset of that size being equally likely: the hidden fraction is exact to a cell.

    Args:
        keys: (B,) int64 keys.
        height: image height in pixels.
        width: image width in pixels.
        depth: of volumes, whose grid has cells of the patch's depth likewise; None for images.
        hidden_fraction: (low, high) of the fraction of hidden cells, drawn uniformly for each sample.
        patch_size: side of a square cell or a cube, or its (height, width), of volumes (depth, height, width); at
            least 1.

    Returns:
        `visible`, (B, 1, height, width) or (B, 1, depth, height, width) bool.

    Raises:
        InputError: the range is not 0 <= low <= high <= 1, patch_size < 1, or not one side for each axis.
    """
    _check_patch_size(patch_size)
    size = (height, width) if depth is None else (depth, height, width)
    patch = (patch_size,) * len(size) if isinstance(patch_size, int) else patch_size
    if len(patch) != len(size):
        raise InputError(f"patch_size must be one number, or one for each of {len(size)} axes, got {patch_size}.")
    cells = [-(-length // side) for length, side in zip(size, patch, strict=True)]
    fraction = draw_hidden_fraction(fold_in(keys, 0), hidden_fraction)
    hidden_cells = (fraction * math.prod(cells)).round().long()
    rank = permutation(fold_in(keys, 1), math.prod(cells))
    visible = (rank >= hidden_cells.unsqueeze(1)).reshape(-1, *cells)
    # Axis by axis from the last one, so that rows are repeated as a whole: copying by pixel takes sixty times as long.
    for axis, length, side in reversed([*zip(range(1, visible.ndim), size, patch, strict=True)]):
        visible = visible.repeat_interleave(side, dim=axis).narrow(axis, 0, length).contiguous()
    return visible.unsqueeze(1)
