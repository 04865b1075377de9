"""Patches and rectangles of signals, images and volumes."""

import math
from itertools import product

import pytest
import torch

from maskrobust.augment import FAMILIES, Batch, SilhouetteBank, build_family, sample_keys
from maskrobust.errors import InputError
from tests.conftest import refused

IDS = torch.arange(40)
SIZES = [(1,), (37,), (1, 9), (2, 2), (33, 17), (5, 9, 7), (1, 6, 4), (8, 8, 8)]
FRACTIONS = [0.0, 0.001, 0.02, 0.1, 0.5, 0.83, 0.99, 1.0]
OF_ANY_AXES = ["patches", "rectangles"]


def batch_of(*size):
    images = torch.zeros(len(IDS), 2, *size)
    return Batch(IDS, images, torch.zeros_like(images[:, :1], dtype=torch.bool), IDS)


RATIOS = [(0.5, 2.0), (1.0, 1.0), (0.05, 20.0), (6.0, 6.0), (0.1, 0.1)]


def hole(name, size, fraction, **options):
    family = build_family({name: options or 1.0}, hidden_fraction=(fraction, fraction), patch_size=3)
    visible = family(sample_keys(0, IDS), batch_of(*size))
    assert visible.shape == (len(IDS), 1, *size)
    return ~visible[:, 0]


@pytest.mark.parametrize("size", SIZES)
def test_patches_are_cells_of_a_grid_of_which_a_fraction_is_hidden(size):
    for fraction in FRACTIONS:
        hidden = hole("patches", size, fraction)
        starts = [range(0, length, 3) for length in size]
        cells = [hidden[(slice(None), *(slice(at, at + 3) for at in place))].flatten(1) for place in product(*starts)]
        assert all(torch.equal(cell.any(dim=1), cell.all(dim=1)) for cell in cells)
        wanted = fraction * len(cells)
        assert ((sum(cell.all(dim=1).int() for cell in cells) - wanted).abs() <= 0.5 + 1e-5).all()


@pytest.mark.parametrize("size", SIZES)
def test_rectangles_are_boxes_exact_to_half_a_row_and_half_a_column_of_each_slice(size):
    for fraction, ratio in product(FRACTIONS, RATIOS if len(size) == 2 else RATIOS[:1]):
        hidden = hole("rectangles", size, fraction, aspect_ratio=ratio)
        sides = []
        for axis in range(1, hidden.ndim):
            others = [each for each in range(1, hidden.ndim) if each != axis]
            sides.append((hidden.any(dim=others) if others else hidden).sum(dim=1))
        count = hidden.flatten(1).sum(dim=1)
        assert torch.equal(count, math.prod(sides))
        height, width = (torch.ones(len(IDS)), *sides)[-2:]
        slices = sides[0].clamp(min=1) if len(size) == 3 else 1
        promised = slices * (height.clamp(min=1) + width) / 2
        assert ((count - fraction * math.prod(size)).abs() <= promised + 1e-3).all()
        if 0.2 < fraction < 0.6 and len(size) == 3 and min(size) > 4:  # a box, not a slab
            assert max(sides[0]) < size[0] and len(hidden.flatten(2).any(dim=2).byte().argmax(dim=1).unique()) > 1


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in OF_ANY_AXES])
@pytest.mark.parametrize("size", [(9,), (4, 5, 6)])
def test_other_families_say_that_they_are_for_images(name, size):
    images = batch_of(8, 8)
    bank = SilhouetteBank.from_batches([Batch(IDS, images.images, torch.ones_like(images.images[:, :1]).bool(), IDS)])
    family = build_family(name, bank=bank)
    with refused(InputError, match=rf"mask family '{name}' is for images \(B, C, H, W\), got"):
        family(sample_keys(0, IDS), batch_of(*size))


def test_a_patch_has_a_side_for_each_axis():
    family = build_family("patches", hidden_fraction=(0.5, 0.5), patch_size=(1, 2, 4))
    hidden = ~family(sample_keys(0, IDS), batch_of(3, 4, 8))[:, 0]
    assert torch.equal(hidden, hidden[:, :, ::2, ::4].repeat_interleave(2, 2).repeat_interleave(4, 3))
    assert (hidden.flatten(1).sum(dim=1) == 48).all()
    with pytest.raises(InputError, match=r"one for each of 2 axes, got \(1, 2, 4\)"):
        family(sample_keys(0, IDS), batch_of(4, 8))
