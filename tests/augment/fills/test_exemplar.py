"""The exemplar fill: against every offset tried one by one, and what holds for any picture and hole."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch

from maskrobust.augment import fill_exemplar, patches, uniform
from maskrobust.augment.fills.exemplar import mirror, sources

MEAN = (0.25, 0.5, 0.75)
REACH = 12 + 2 * 3  # a hole of 9 pixels, rounded up to a multiple of 4, and its rim


def disc(size, centre, radius):
    """`visible` (H, W) with a round hole."""
    y, x = np.ogrid[: size[0], : size[1]]
    return np.asarray((y - centre[0]) ** 2 + (x - centre[1]) ** 2 > radius**2)


def texture(seed, height, width, channels=3):
    """(H, W, C) noise, smoothed once along both axes."""
    noise = np.random.default_rng(seed).integers(0, 256, (height + 1, width + 1, channels)).astype(float)
    return np.asarray((noise[1:, 1:] + noise[:-1, 1:] + noise[1:, :-1] + noise[:-1, :-1]) / 4, dtype=np.uint8)


def slow_costs(pixels, visible):
    """What each offset costs the only hole, one by one; those that show too little are left out."""
    height, width = visible.shape
    hole = np.pad(~visible, 3)
    near = np.logical_or.reduce([hole[y : y + height, x : x + width] for y in range(7) for x in range(7)])
    rim, costs = near & visible, {}
    frame = np.pad(visible, [(height, height), (width, width)])
    picture = np.pad(pixels.astype(float), [(height, height), (width, width), (0, 0)])
    for down, right in product(range(-height, height + 1), range(-width, width + 1)):
        there = slice(height + down, 2 * height + down), slice(width + right, 2 * width + right)
        covered, compared = frame[there][~visible].mean(), rim & frame[there]
        if covered >= 0.6 and compared.sum() >= 0.6 * rim.sum():
            error = np.square(pixels[compared] - picture[there][compared]).mean()
            costs[down, right] = float((error + 1) * (1 + 2 * (1 - covered)))
    return costs


def main_offset(place, hole):
    """The commonest offset within a hole, and the fraction of the hole that it fills."""
    there = np.stack(np.divmod(place[hole], hole.shape[1]), axis=1)
    ((offset, count),) = Counter(map(tuple, (there - np.argwhere(hole)).tolist())).most_common(1)
    return (offset[0], offset[1]), count / hole.sum()


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("centre", [(14, 17), (5, 24)], ids=str)
def test_the_offset_is_the_cheapest_of_all_in_reach(centre, channels):
    for seed in range(3):
        pixels, visible = texture(seed, 28, 34, channels), disc((28, 34), centre, 4)
        offset, _ = main_offset(sources(pixels, visible)[0], ~visible)
        costs = {each: value for each, value in slow_costs(pixels, visible).items() if max(map(abs, each)) <= REACH}
        assert len(costs) > 300 and costs[offset] == pytest.approx(min(costs.values()))


@pytest.mark.parametrize("radius", [18, 40])
def test_a_large_hole_in_a_pattern_that_repeats_is_restored_exactly(radius):
    pixels = np.tile(texture(1, 36, 40), (7, 6, 1))[:240, :225]
    visible = disc(pixels.shape[:2], (120, 108), radius)
    place, _ = sources(pixels, visible)
    filled = pixels.reshape(-1, 3)[place]
    assert main_offset(place, ~visible)[1] > 0.9
    assert (filled != pixels).any(axis=2).mean() < 0.01


def test_each_hidden_patch_has_an_offset_of_its_own():
    pixels = texture(2, 100, 96)
    visible = patches(torch.arange(1), 100, 96, hidden_fraction=(0.4, 0.4), patch_size=16)[0, 0].numpy()
    (place, _), offsets = sources(pixels, visible), set()
    for row, column in product(range(0, 100, 16), range(0, 96, 16)):
        cell = np.zeros_like(visible)
        cell[row : row + 16, column : column + 16] = True
        if not visible[row, column]:
            offset, filled = main_offset(place, cell)
            assert filled >= 0.5
            offsets.add(offset)
    assert len(offsets) > 10


def test_a_mirrored_hole_shows_what_lies_beside_it_and_an_image_that_is_whole_or_hidden_stays():
    images = torch.arange(3 * 2 * 8.0).view(1, 1, 6, 8).repeat(3, 2, 1, 1)
    visible = torch.ones(3, 1, 6, 8, dtype=torch.bool)
    visible[0, :, :, 5:], visible[1] = False, False
    drawn = mirror(images, visible)
    assert torch.equal(drawn[0, :, :, 5:], images[0, :, :, 1:4].flip(-1))
    assert torch.equal(drawn[0, :, :, :5], images[0, :, :, :5]) and torch.equal(drawn[1:], images[1:])


def test_what_no_offset_fills_is_mirrored_at_the_edge_of_the_hole():
    visible = np.array([[True, True, True, False, False, False]])
    assert sources(np.zeros((1, 6, 3), dtype=np.uint8), visible)[0].tolist() == [[0, 1, 2, 1, 0, 2]]
    seen = np.zeros((20, 30), dtype=np.bool_)
    seen[7, 11] = True
    assert (sources(texture(0, 20, 30), seen)[0] == 7 * 30 + 11).all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16], ids=str)
def test_every_hidden_pixel_gets_the_value_of_a_visible_one_whatever_the_hole_held(dtype):
    for seed in range(12):
        size = (20 + 7 * seed, 90 - 5 * seed)
        keys = torch.arange(3) + 3 * seed
        numbers = uniform(keys, 3, *size)
        images = (numbers * 255).to(dtype) if dtype == torch.uint8 else numbers.to(dtype)
        visible = torch.cat(
            [
                torch.from_numpy(disc(size, (size[0] // 2, 20), 9))[None, None],
                patches(keys[:1], *size, hidden_fraction=(0.6, 0.6), patch_size=8).roll((3, 5), (2, 3)),
                uniform(keys[:1] + 1, 1, *size) < 0.7,
            ]
        )
        filled = fill_exemplar(images, visible, MEAN)
        for image, picture, seen in zip(images, filled, visible[:, 0], strict=True):
            known = set(map(tuple, image[:, seen].T.tolist()))
            assert set(map(tuple, picture[:, ~seen].T.tolist())) <= known
            assert torch.equal(picture[:, seen], image[:, seen])
        hidden = torch.zeros_like(images) if dtype == torch.uint8 else torch.full_like(images, torch.nan)
        assert torch.equal(fill_exemplar(torch.where(visible, images, hidden), visible, MEAN), filled)
