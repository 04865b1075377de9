"""Square patches on a grid, hidden at random, as in masked image modelling and the paper's retention curves."""

import torch
from torch import Tensor

from augment.families.fraction import draw_hidden_fraction
from augment.random import fold_in, uniform


def patches(
    keys: Tensor, height: int, width: int, *, hidden_fraction: tuple[float, float], patch_size: int = 16
) -> Tensor:
    """Hide a random subset of the cells of a grid.

    The grid has ceil(height / patch_size) x ceil(width / patch_size) cells, those at the lower and right border cut
    off where patch_size does not divide the image. round(fraction x cells) cells are hidden, every subset of that size
    being equally likely: the hidden fraction is exact to a cell.

    Args:
        keys: (B,) int64 keys.
        height: image height in pixels.
        width: image width in pixels.
        hidden_fraction: (low, high) of the share of hidden cells, drawn uniformly for each sample.
        patch_size: side of a cell in pixels, at least 1.

    Returns:
        `visible`, (B, 1, height, width) bool.

    Raises:
        ValueError: the range is not 0 <= low <= high <= 1, or patch_size < 1.
    """
    if patch_size < 1:
        raise ValueError(f"patch_size must be at least 1 pixel, got {patch_size}.")
    rows, columns = -(-height // patch_size), -(-width // patch_size)
    fraction = draw_hidden_fraction(fold_in(keys, 0), hidden_fraction)
    hidden_cells = (fraction * (rows * columns)).round()
    rank = uniform(fold_in(keys, 1), rows * columns).argsort(dim=1, stable=True)
    visible = (rank >= hidden_cells.unsqueeze(1)).reshape(-1, 1, rows, columns)
    row = torch.arange(height, device=keys.device) // patch_size
    column = torch.arange(width, device=keys.device) // patch_size
    return visible[:, :, row[:, None], column]
