"""The blurred fill, against SciPy's Gaussian filter."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from maskrobust.augment import fill_blur, uniform

SIZES = [(1, 1), (1, 40), (40, 1), (2, 300), (23, 57), (64, 64), (224, 224), (511, 300)]


def hidden(images):
    return torch.zeros_like(images[:, :1], dtype=torch.bool)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_it_is_a_gaussian_filter_over_an_image_continued_by_its_border(size):
    images = uniform(torch.arange(1), 2, *size).double()
    deviation = min(size) * 10 / 224
    expected = gaussian_filter(images.numpy(), deviation, mode="nearest", truncate=4.0, axes=(2, 3))
    np.testing.assert_allclose(fill_blur(images, hidden(images)), expected, atol=1e-12)
    np.testing.assert_allclose(fill_blur(images.float(), hidden(images)), expected, atol=1e-6)
