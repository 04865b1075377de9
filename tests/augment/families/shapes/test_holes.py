"""Holes of each image's own object, and of other objects' silhouettes."""

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy import ndimage

from maskrobust.augment import enclosing_circles, object_holes, sample_keys
from maskrobust.augment.families.holes import circles_of_equal_area, companion_blobs

SIZES = [(1, 1), (1, 6), (7, 1), (8, 8), (9, 7), (32, 51)]


def ellipses(count, height, width):
    place = torch.rand(count, 2, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3
    down = (torch.arange(height) / height - place[:, :1]) / 0.2
    across = (torch.arange(width) / width - place[:, 1:]) / 0.08
    return (down.square()[:, :, None] + across.square()[:, None, :] < 1).unsqueeze(1)


def test_object_and_companion_hide_as_much_as_the_enclosing_circle_and_do_not_touch():
    object_mask = ellipses(40, 40, 64)
    visible = object_holes(sample_keys(0, torch.arange(40)), object_mask).silhouette_visible
    hidden = ~visible
    assert torch.equal(hidden.sum(dim=(1, 2, 3)), enclosing_circles(object_mask).sum(dim=(1, 2, 3)))
    assert not (object_mask & visible).any()
    for each, whole in zip(object_mask, hidden, strict=True):
        ring = ndimage.binary_dilation(each[0].numpy(), structure=np.ones((3, 3))) & ~each[0].numpy()
        assert not (ring & whole[0].numpy()).any()


@pytest.mark.parametrize("size", [(2, 3), (10, 10)])
def test_holes_are_not_valid_where_the_companion_has_no_room(size):
    corners = torch.zeros(1, 1, *size, dtype=torch.bool)
    corners[..., :: size[0] - 1, :: size[1] - 1] = True
    assert not object_holes(torch.arange(1), corners).valid.any()


def random_objects(count, height, width, seed):
    """Scattered pixels, few enough for an exhaustive search."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, height, width, generator=generator) < 6 / (height * width)


def smallest_radius(points):
    """Radius of the smallest circle around points, by trying every circle through two or three of them."""
    if len(points) == 1:
        return 0.0
    centres = [(a + b) / 2 for a, b in combinations(points, 2)]
    for a, b, c in combinations(points, 3):
        system = 2 * np.array([b - a, c - a])
        if abs(np.linalg.det(system)) > 1e-9:
            centres.append(np.linalg.solve(system, [b @ b - a @ a, c @ c - a @ a]))
    return min(np.linalg.norm(points - centre, axis=1).max() for centre in centres)


@pytest.mark.parametrize(("height", "width"), [(24, 24), (9, 40), (31, 7)])
def test_every_object_pixel_lies_in_its_disc(height, width):
    dense = torch.rand(50, 1, height, width, generator=torch.Generator().manual_seed(1)) < 0.5
    objects = torch.cat([random_objects(50, height, width, 0), dense])
    assert not (objects & ~enclosing_circles(objects)).any()


@pytest.mark.parametrize("seed", range(8))
def test_the_disc_is_that_of_the_smallest_circle(seed):
    objects = random_objects(1, 21, 21, seed)
    placed = torch.nn.functional.pad(objects, [20] * 4)
    points = np.argwhere(placed[0, 0].numpy()).astype(float)
    disc = np.argwhere(enclosing_circles(placed)[0, 0].numpy())
    if len(points) == 0:
        assert len(disc) == 0
        return
    radius = smallest_radius(points)
    width = np.ptp(disc, axis=0).max()
    assert width <= 2 * radius + 1e-3
    assert abs(len(disc) - np.pi * radius**2) <= 2 * np.pi * (radius + 1)
    assert smallest_radius(disc[np.linalg.norm(disc - disc.mean(0), axis=1).argsort()[-8:]]) <= radius + 1e-3


def test_a_circle_of_equal_area_holds_the_pixels_nearest_to_the_centroid():
    objects = torch.cat([random_objects(5, 16, 20, 4), torch.zeros(1, 1, 16, 20, dtype=torch.bool)])
    objects[4, 0, :9, :3] = True  # at the border, where the disc is cut off
    for hidden, inside in zip(circles_of_equal_area(objects)[:, 0].numpy(), objects[:, 0].numpy(), strict=True):
        assert hidden.sum() == inside.sum()
        if inside.any():
            centre = np.argwhere(inside).mean(axis=0)
            distances = [np.linalg.norm(np.argwhere(part) - centre, axis=1) for part in (hidden, ~hidden)]
            assert distances[0].max() <= distances[1].min() + 1e-9


EIGHT_NEIGHBOURS = np.ones((3, 3))


def boxes(count, height, width):
    """A box of random size and place in each image."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.arange(height), torch.arange(width)
    top = torch.randint(0, height - 4, (count, 1), generator=generator)
    left = torch.randint(0, width - 4, (count, 1), generator=generator)
    inside_rows = (rows >= top) & (rows < top + height // 3)
    inside_columns = (columns >= left) & (columns < left + width // 4)
    return (inside_rows[:, :, None] & inside_columns[:, None, :]).unsqueeze(1)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 45), (64, 17)])
@pytest.mark.parametrize("pixels", [0, 1, 60, 200])
def test_a_blob_has_exactly_the_area_asked_for_and_keeps_clear_of_the_object(height, width, pixels):
    objects = boxes(40, height, width)
    blobs, fits = companion_blobs(sample_keys(1, torch.arange(40)), objects, torch.full((40,), pixels))
    assert blobs.dtype == torch.bool
    assert fits.all()
    assert (blobs.sum(dim=(1, 2, 3)) == pixels).all()
    for blob, box in zip(blobs, objects, strict=True):
        grown = ndimage.binary_dilation(box[0].numpy(), structure=EIGHT_NEIGHBOURS)
        assert not (grown & blob[0].numpy()).any()


def test_where_the_room_does_not_suffice_nothing_is_drawn_and_said():
    objects = torch.zeros(3, 1, 8, 8, dtype=torch.bool)
    objects[0, 0, 2:, :] = True
    objects[1, 0] = True
    blobs, fits = companion_blobs(sample_keys(0, torch.arange(3)), objects, torch.tensor([9, 1, 64]))
    assert fits.tolist() == [False, False, True]
    assert blobs.sum(dim=(1, 2, 3)).tolist() == [0, 0, 64]
    blobs, fits = companion_blobs(sample_keys(0, torch.arange(3)), objects, torch.tensor([8, 0, 0]))
    assert fits.all()
    assert blobs.sum(dim=(1, 2, 3)).tolist() == [8, 0, 0]


def test_blobs_are_irregular_and_differ_from_key_to_key():
    empty = torch.zeros(50, 1, 64, 64, dtype=torch.bool)
    blobs, _ = companion_blobs(sample_keys(0, torch.arange(50)), empty, torch.full((50,), 400))
    assert len({blob.numpy().tobytes() for blob in blobs}) == 50
    heights = blobs.any(dim=3).sum(dim=(1, 2)).double()
    widths = blobs.any(dim=2).sum(dim=(1, 2)).double()
    assert (heights / widths).std() > 0.2
    border = blobs.clone()
    border[:, :, 1:-1, 1:-1] = False
    whole = blobs[~border.flatten(1).any(dim=1)]
    assert len(whole) > 10
    assert (400 / enclosing_circles(whole).sum(dim=(1, 2, 3))).mean() < 0.85
