"""Smallest enclosing circles against an exhaustive search, and their cover of the object."""

from itertools import combinations

import numpy as np
import pytest
import torch

from maskrobust.augment.families.shapes.circles import circles_of_equal_area, enclosing_circles


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


def test_the_disc_is_cut_off_at_the_border():
    bar = torch.zeros(1, 1, 10, 40, dtype=torch.bool)
    bar[..., 5, 2:38] = True
    hidden = enclosing_circles(bar)
    assert hidden.shape == bar.shape
    assert hidden[0, 0, :, 20].all()
    assert not hidden[0, 0, :, 0].any()


def test_no_object_gives_no_disc_and_no_image_gives_no_result():
    assert not enclosing_circles(torch.zeros(2, 1, 8, 8, dtype=torch.bool)).any()
    assert enclosing_circles(torch.zeros(0, 1, 8, 8, dtype=torch.bool)).shape == (0, 1, 8, 8)


def test_a_circle_of_equal_area_holds_the_pixels_nearest_to_the_centroid():
    objects = torch.cat([random_objects(5, 16, 20, 4), torch.zeros(1, 1, 16, 20, dtype=torch.bool)])
    objects[4, 0, :9, :3] = True  # at the border, where the disc is cut off
    for hidden, inside in zip(circles_of_equal_area(objects)[:, 0].numpy(), objects[:, 0].numpy(), strict=True):
        assert hidden.sum() == inside.sum()
        if inside.any():
            centre = np.argwhere(inside).mean(axis=0)
            distances = [np.linalg.norm(np.argwhere(part) - centre, axis=1) for part in (hidden, ~hidden)]
            assert distances[0].max() <= distances[1].min() + 1e-9
