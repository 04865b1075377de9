"""Hidden cells of a grid, read back cell by cell."""

from math import ceil

import pytest
import torch
from scipy import stats

from maskrobust.augment import patches, sample_keys

SIZES = [(1, 1, 1), (1, 1, 16), (5, 9, 100), (7, 5, 2), (33, 17, 8), (32, 32, 16), (16, 48, 16), (9, 1, 2), (1, 9, 2)]
FRACTIONS = [0.0, 0.01, 0.1, 0.25, 0.3, 0.5, 0.65, 0.9, 0.99, 1.0]


def hidden_cells(visible, patch_size):
    """(B, rows, columns) bool; every cell must be hidden or visible as a whole."""
    height, width = visible.shape[2:]
    cells = torch.zeros(len(visible), ceil(height / patch_size), ceil(width / patch_size), dtype=torch.bool)
    for row in range(cells.shape[1]):
        for column in range(cells.shape[2]):
            top, left = row * patch_size, column * patch_size
            cell = visible[:, 0, top : top + patch_size, left : left + patch_size].flatten(1)
            assert torch.equal(cell.any(dim=1), cell.all(dim=1))
            cells[:, row, column] = ~cell.any(dim=1)
    return cells


@pytest.mark.parametrize("size", SIZES)
def test_the_hidden_fraction_is_exact_to_a_cell(size):
    for fraction in FRACTIONS:
        height, width, patch_size = size
        visible = patches(torch.arange(6), height, width, hidden_fraction=(fraction, fraction), patch_size=patch_size)
        assert visible.shape == (6, 1, height, width)
        cells = hidden_cells(visible, patch_size)
        wanted = fraction * cells[0].numel()
        assert ((cells.flatten(1).sum(dim=1) - wanted).abs() <= 0.5 + 1e-5).all()


@pytest.mark.parametrize(("rows", "columns", "hidden"), [(5, 7, 3), (5, 7, 20), (1, 9, 4), (6, 6, 35)])
def test_every_cell_is_hidden_equally_often(rows, columns, hidden):
    samples, cells = 4000, rows * columns
    fraction = hidden / cells
    keys = sample_keys(2, torch.arange(samples))
    visible = patches(keys, rows * 3 - 1, columns * 3 - 2, hidden_fraction=(fraction, fraction), patch_size=3)
    counts = hidden_cells(visible, 3).sum(dim=0).double()
    # The cells of one mask are drawn without replacement, which shrinks the statistic by cells / (cells - 1).
    statistic = ((counts - samples * fraction) ** 2).sum() / (samples * fraction * (1 - fraction)) * (cells - 1) / cells
    assert 1e-3 < stats.chi2(cells - 1).sf(float(statistic)) < 1 - 1e-3


def test_a_shifted_grid_hides_every_pixel_equally_often_and_all_offsets_occur():
    count, fraction = 4000, 6 / 16
    keys = sample_keys(6, torch.arange(count))
    hidden = ~patches(keys, 9, 9, hidden_fraction=(fraction, fraction), patch_size=3, random_offset=True)[:, 0]
    times = hidden.sum(dim=0).double()
    assert ((times - count * fraction).abs() < 4.5 * (count * fraction * (1 - fraction)) ** 0.5).all()
    edges = (hidden[:, :, 1:] != hidden[:, :, :-1]).any(dim=1).sum(dim=0).double()
    assert edges.min() > 0.8 * edges.max()
    assert patches(keys, 9, 9, hidden_fraction=(0.0, 0.0), patch_size=3, random_offset=True).all()
    assert not patches(keys, 9, 9, hidden_fraction=(1.0, 1.0), patch_size=3, random_offset=True).any()
