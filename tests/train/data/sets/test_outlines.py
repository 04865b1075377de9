"""Outlines: one circle for all kinds, filled exactly, readable."""

import cv2
import numpy as np
import pytest

from maskrobust.train.data.sets.outlines import (
    DEFORMATION_NUMBERS,
    OUTLINE_NAMES,
    POINTS,
    base_outlines,
    deform,
    enclosing_circle,
    rasterise,
)

KINDS = range(len(OUTLINE_NAMES))


def farthest(curve, centre):
    return np.linalg.norm(curve - centre, axis=1).max()


@pytest.fixture(scope="module")
def deformed():
    """200 deformed curves of each kind, (kinds, 200, POINTS, 2)."""
    numbers = np.random.default_rng(0).random((200 * len(OUTLINE_NAMES), DEFORMATION_NUMBERS), dtype=np.float32)
    curves = deform(np.repeat(base_outlines(), 200, axis=0), numbers)
    return curves.reshape(len(OUTLINE_NAMES), 200, POINTS, 2)


@pytest.mark.parametrize("kind", KINDS, ids=OUTLINE_NAMES)
def test_no_circle_smaller_than_the_unit_circle_holds_the_curve(kind):
    curve = base_outlines()[kind]
    assert farthest(curve, np.zeros(2)) == pytest.approx(1, abs=1e-3)
    shifts = 0.05 * np.stack([np.cos(np.arange(64) * np.pi / 32), np.sin(np.arange(64) * np.pi / 32)], axis=1)
    assert min(farthest(curve, shift) for shift in shifts) > 1


@pytest.mark.parametrize("kind", KINDS, ids=OUTLINE_NAMES)
def test_the_circle_of_the_filled_pixels_is_the_one_asked_for_whatever_the_kind(deformed, kind):
    generator, errors = np.random.default_rng(1), []
    for curve in deformed[kind]:
        centre, radius = generator.uniform(20, 27, 2), generator.uniform(14, 18)
        found_centre, found_radius = enclosing_circle(rasterise(curve, centre, radius, 48))
        errors.append((*(found_centre - centre), found_radius - radius))
    assert np.abs(errors).max() < 2.5
    assert np.abs(np.mean(errors, axis=0)).max() < 0.1
    assert abs(np.mean(errors, axis=0)[2]) < 0.05


@pytest.mark.parametrize("kind", KINDS, ids=OUTLINE_NAMES)
def test_all_kinds_fill_nearly_the_same_share_of_their_circle_in_one_piece(deformed, kind):
    masks = [rasterise(curve, np.array([32.0, 32.0]), 28.0, 64) for curve in deformed[kind]]
    assert 0.44 < np.mean(masks) * 64**2 / (np.pi * 28**2) < 0.51
    assert all(cv2.connectedComponents(mask.astype(np.uint8))[0] == 2 for mask in masks)


def test_deformation_turns_by_at_most_25_degrees_and_bends_a_little():
    still = np.full((2, DEFORMATION_NUMBERS), 0.5, dtype=np.float32)
    curves = base_outlines()[[2, 2]]
    assert deform(curves, still) == pytest.approx(curves)
    turned = still.copy()
    turned[:, 0] = (0, 1)
    angles = [
        np.rad2deg(np.arctan2(*curve[0][::-1]) - np.arctan2(*curves[0, 0][::-1])) for curve in deform(curves, turned)
    ]
    assert sorted(angles) == pytest.approx([-25, 25], abs=1e-3)
