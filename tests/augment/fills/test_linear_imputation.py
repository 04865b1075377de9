"""Linear imputation, against a direct sparse solution in float64."""

import numpy as np
import pytest
import torch
from scipy import sparse, stats
from scipy.sparse.linalg import spsolve

from maskrobust.augment import companion_blobs, fill_linear_imputation, patches, rectangles, sample_keys, uniform
from maskrobust.augment.fills.linear_imputation import impute

STEPS = [(down, across) for down in (-1, 0, 1) for across in (-1, 0, 1) if (down, across) != (0, 0)]


def solve_directly(image, visible):
    """Every hidden pixel of (C, H, W) the mean of its neighbours in the image, 1/6 direct and 1/12 diagonal."""
    height, width = visible.shape
    rows, columns = np.nonzero(~visible)
    number = np.full(visible.shape, -1)
    number[rows, columns] = np.arange(len(rows))
    matrix = sparse.lil_matrix((len(rows), len(rows)))
    right = np.zeros((len(rows), len(image)))
    for equation, (row, column) in enumerate(zip(rows, columns, strict=True)):
        for down, across in STEPS:
            i, j, weight = row + down, column + across, (1 / 12 if down and across else 1 / 6)
            if 0 <= i < height and 0 <= j < width:
                matrix[equation, equation] += weight
                if visible[i, j]:
                    right[equation] += weight * image[:, i, j]
                else:
                    matrix[equation, number[i, j]] -= weight
    filled = image.copy()
    filled[:, ~visible] = spsolve(matrix.tocsr(), right).reshape(len(rows), -1).T
    return filled


def one_pixel(height, width, row, column):
    visible = torch.zeros(1, 1, height, width, dtype=torch.bool)
    visible[..., row, column] = True
    return visible


KEY = torch.tensor([7])
RANDOM = uniform(KEY, 1, 41, 53)
MASKS = {
    "most patches": patches(KEY, 64, 48, hidden_fraction=(0.9, 0.9), patch_size=8),
    "one large rectangle": rectangles(KEY, 50, 45, hidden_fraction=(0.8, 0.8)),
    "a blob": ~companion_blobs(KEY, torch.zeros(1, 1, 70, 90, dtype=torch.bool), torch.tensor([3000]))[0],
    "all but a pixel in the corner": one_pixel(40, 40, 0, 0),
    "all but two pixels": one_pixel(50, 53, 20, 41) | one_pixel(50, 53, 45, 3),
    "all but a column": (torch.arange(53) == 0).expand(1, 1, 41, 53),
    "all but a few pixels": RANDOM < 0.01,
    "half of the pixels": RANDOM < 0.5,
    "few pixels hidden": RANDOM < 0.98,
    "lines": ((torch.arange(41) % 13) == 5)[:, None].expand(1, 1, 41, 53),
    "a grid": (((torch.arange(41) % 9) == 5)[:, None] | ((torch.arange(53) % 11) == 3)).expand(1, 1, 41, 53),
    "one row": uniform(KEY, 1, 1, 300) < 0.02,
    "one column": uniform(KEY, 1, 512, 1) < 0.01,
    "three rows": uniform(KEY, 1, 3, 200) < 0.01,
    "two pixels": one_pixel(1, 2, 0, 1),
}


@pytest.mark.parametrize("visible", MASKS.values(), ids=MASKS.keys())
def test_it_agrees_with_a_direct_solution_in_every_channel(visible):
    images = uniform(KEY + 1, 2, *visible.shape[2:])
    images[:, 1] = images[:, 1].cumsum(dim=2) / images.shape[3]
    solved = impute(images, visible, torch.full((1, 2, 1, 1), 0.5))[0]
    expected = solve_directly(images[0].double().numpy(), visible[0, 0].numpy())
    np.testing.assert_allclose(solved, expected, rtol=0, atol=1e-6)


def test_the_noise_is_gaussian_with_a_deviation_of_a_hundredth():
    keys = sample_keys(0, torch.arange(40))
    visible = patches(keys, 32, 32, hidden_fraction=(0.5, 0.5), patch_size=8)
    images = torch.full((40, 3, 32, 32), 0.5)
    noise = (fill_linear_imputation(images, visible, keys, (0.5,) * 3) - images)[~visible.expand_as(images)] / 0.01
    assert stats.kstest(noise, "norm").pvalue > 1e-3


def test_a_visible_nan_spoils_no_other_image():
    keys = sample_keys(0, torch.arange(3))
    visible = patches(keys, 32, 32, hidden_fraction=(0.5, 0.5), patch_size=8)
    images = uniform(keys, 3, 32, 32)
    expected = fill_linear_imputation(images, visible, keys, (0.5,) * 3)
    spoilt = images.clone()
    spoilt[1] = spoilt[1].where(~visible[1], float("nan"))
    filled = fill_linear_imputation(spoilt, visible, keys, (0.5,) * 3)
    assert torch.equal(filled[::2], expected[::2])
    assert filled[1].isnan().all()
