"""Irregular blobs: exact to a pixel, everywhere equally often, smooth, and cut as a full sort would cut them."""

import pytest
import torch
from scipy import ndimage

from maskrobust.augment import blobs, sample_keys

SIZES = [(1, 1), (1, 9), (9, 1), (2, 3), (7, 5), (33, 17), (64, 64), (5, 512)]
FRACTIONS = [0.0, 0.01, 0.1, 1 / 3, 0.5, 0.77, 0.99, 1.0]


@pytest.mark.parametrize("size", SIZES)
def test_the_hidden_pixels_are_exact(size):
    for fraction in FRACTIONS:
        visible = blobs(sample_keys(0, torch.arange(20)), *size, hidden_fraction=(fraction, fraction))
        hidden = (~visible).sum(dim=(1, 2, 3))
        assert (hidden == hidden[0]).all()
        assert abs(int(hidden[0]) - fraction * size[0] * size[1]) <= 0.5 + 1e-5


@pytest.mark.parametrize("fraction", [0.2, 0.7])
def test_every_place_is_hidden_equally_often(fraction):
    count = 1500
    visible = blobs(sample_keys(2, torch.arange(count)), 30, 30, hidden_fraction=(fraction, fraction))
    # Pixels far from each other are nearly independent: a grid of 5 x 5 of them, each hidden binomially.
    for down, across in [(0, 0), (2, 3), (4, 1)]:
        hidden = (~visible[:, 0, down::6, across::6]).sum(dim=0).double().flatten()
        deviation = (hidden - count * fraction) / (count * fraction * (1 - fraction)) ** 0.5
        assert deviation.abs().max() < 4


def test_blobs_are_few_pieces_and_more_knots_make_more_of_them():
    keys = sample_keys(3, torch.arange(40))
    pieces = {}
    for knots in (3, 6, 16):
        visible = blobs(keys, 64, 64, hidden_fraction=(0.3, 0.3), knots=knots)
        pieces[knots] = sum(ndimage.label(~image[0].numpy())[1] for image in visible) / 40
    assert pieces[3] < pieces[6] < pieces[16]
    assert 1 < pieces[6] < 20
