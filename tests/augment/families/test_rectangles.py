"""Rectangles, read back as the bounding box of the hidden pixels, and irregular blobs."""

from itertools import pairwise, product
from typing import NamedTuple

import pytest
import torch
from scipy import ndimage, stats
from torch import Tensor

from maskrobust.augment import blobs, rectangles, sample_keys


class Box(NamedTuple):
    """Bounding box of the hidden pixels of each image, (B,) int64 each; all 0 where nothing is hidden."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor


def bounding_box(visible):
    hidden = ~visible[:, 0]
    rows, columns = hidden.any(dim=2), hidden.any(dim=1)
    row_numbers, column_numbers = torch.arange(rows.shape[1]), torch.arange(columns.shape[1])
    top, left = rows.byte().argmax(dim=1), columns.byte().argmax(dim=1)
    bottom = torch.where(rows, row_numbers + 1, 0).amax(dim=1)
    right = torch.where(columns, column_numbers + 1, 0).amax(dim=1)
    return Box(top, left, bottom - top, right - left)


@pytest.mark.parametrize(
    ("size", "fraction", "ratio", "expected"),
    [
        ((64, 64), 1 / 4, 1.0, (32, 32)),
        ((64, 64), 1 / 8, 2.0, (32, 16)),
        ((64, 64), 1 / 8, 0.5, (16, 32)),
        ((8, 64), 1 / 2, 4.0, (8, 32)),
        ((64, 8), 1 / 2, 0.25, (32, 8)),
        ((10, 10), 1 / 10, 1000.0, (10, 1)),
        ((10, 10), 1 / 10, 0.001, (1, 10)),
        ((20, 20), 4 / 400, 100.0, (4, 1)),
        ((20, 20), 4 / 400, 0.01, (1, 4)),
    ],
)
def test_sides_follow_area_and_ratio_and_are_cut_to_the_image(size, fraction, ratio, expected):
    box = bounding_box(
        rectangles(torch.arange(30), *size, hidden_fraction=(fraction, fraction), aspect_ratio=(ratio, ratio))
    )
    assert set(zip(box.height.tolist(), box.width.tolist(), strict=True)) == {expected}


@pytest.mark.parametrize("bounds", [(0.5, 2.0), (1.0, 3.0)])
def test_the_aspect_ratio_is_log_uniform_over_its_range(bounds):
    keys = sample_keys(0, torch.arange(400))
    box = bounding_box(rectangles(keys, 256, 256, hidden_fraction=(0.15, 0.15), aspect_ratio=bounds))
    low, high = torch.tensor(bounds).double().log().tolist()
    log_ratio = (box.height.double() / box.width).log()
    assert stats.kstest(log_ratio, stats.uniform(low, high - low).cdf).pvalue > 1e-3


@pytest.mark.parametrize(("size", "sides"), [((5, 6), (2, 2)), ((4, 9), (4, 4))])
def test_every_place_inside_the_image_is_equally_likely(size, sides):
    fraction = sides[0] * sides[1] / (size[0] * size[1])
    keys = sample_keys(3, torch.arange(4000))
    box = bounding_box(rectangles(keys, *size, hidden_fraction=(fraction, fraction), aspect_ratio=(1.0, 1.0)))
    places = (size[0] - sides[0] + 1, size[1] - sides[1] + 1)
    counts = torch.bincount(box.top * places[1] + box.left, minlength=places[0] * places[1])
    assert len(counts) == places[0] * places[1]
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("count", [2, 3, 7])
def test_several_rectangles_hide_the_fraction_asked_for_in_each_strip(count):
    for size, fraction in product([(8, 8), (33, 32), (61, 17)], [0.0, 0.37, 0.8, 1.0]):
        visible = rectangles(sample_keys(1, torch.arange(40)), *size, hidden_fraction=(fraction, fraction), count=count)
        assert visible.shape == (40, 1, *size) and visible.dtype == torch.bool
        fits = []
        for axis in (2, 3):
            edges = [i * size[axis - 2] // count for i in range(count + 1)]
            strips = [visible.narrow(axis, a, b - a) for a, b in pairwise(edges)]
            boxes = [bounding_box(strip) for strip in strips]
            hidden = [(~strip).sum(dim=(1, 2, 3)) for strip in strips]
            solid = [torch.eq(box.height * box.width, area) for box, area in zip(boxes, hidden, strict=True)]
            exact = [
                (area - fraction * strip[0].numel()).abs() <= (box.height.clamp(min=1) + box.width) / 2 + 1e-3
                for strip, box, area in zip(strips, boxes, hidden, strict=True)
            ]
            fits.append(torch.stack(solid + exact).all(dim=0))
        assert torch.logical_or(*fits).all()


BLOB_SIZES = [(1, 1), (1, 9), (9, 1), (2, 3), (7, 5), (33, 17), (64, 64), (5, 512)]
BLOB_FRACTIONS = [0.0, 0.01, 0.1, 1 / 3, 0.5, 0.77, 0.99, 1.0]


@pytest.mark.parametrize("size", BLOB_SIZES)
def test_the_hidden_pixels_of_blobs_are_exact(size):
    for fraction in BLOB_FRACTIONS:
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
