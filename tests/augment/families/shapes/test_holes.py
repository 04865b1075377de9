"""Holes made from the sample's own object."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from maskrobust.augment import broken_silhouettes, companions, enclosing_circles, sample_keys

SIZES = [(1, 1), (1, 6), (7, 1), (8, 8), (9, 7), (32, 51)]


def ellipses(count, height, width):
    place = torch.rand(count, 2, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3
    down = (torch.arange(height) / height - place[:, :1]) / 0.2
    across = (torch.arange(width) / width - place[:, 1:]) / 0.08
    return (down.square()[:, :, None] + across.square()[:, None, :] < 1).unsqueeze(1)


@pytest.mark.parametrize("size", SIZES)
def test_a_broken_silhouette_is_the_object_with_its_quadrants_swapped(size):
    object_mask = torch.rand(20, 1, *size, generator=torch.Generator().manual_seed(1)) < 0.4
    hidden = ~broken_silhouettes(object_mask)
    assert torch.equal(hidden.sum(dim=(1, 2, 3)), object_mask.sum(dim=(1, 2, 3)))
    height, width = size
    for row in range(height):
        for column in range(width):
            target = hidden[:, 0, (row + height // 2) % height, (column + width // 2) % width]
            assert torch.equal(target, object_mask[:, 0, row, column])


def test_object_and_companion_hide_as_much_as_the_enclosing_circle_and_do_not_touch():
    object_mask = ellipses(40, 40, 64)
    visible = companions(sample_keys(0, torch.arange(40)), object_mask)
    hidden = ~visible
    assert torch.equal(hidden.sum(dim=(1, 2, 3)), enclosing_circles(object_mask).sum(dim=(1, 2, 3)))
    assert not (object_mask & visible).any()
    for each, whole in zip(object_mask, hidden, strict=True):
        ring = ndimage.binary_dilation(each[0].numpy(), structure=np.ones((3, 3))) & ~each[0].numpy()
        assert not (ring & whole[0].numpy()).any()


def test_where_the_companion_has_no_room_nothing_is_hidden():
    corners = torch.zeros(1, 1, 10, 10, dtype=torch.bool)
    corners[..., ::9, ::9] = True
    assert companions(torch.arange(1), corners).all()
