"""Garments: the mask is the garment, and image and mask are placed together."""

import cv2
import numpy as np

from maskrobust.train.data.files.idx import DEBIAN_FOLDER, read_garments
from maskrobust.train.data.sets.fashion import PLACE_NUMBERS, garment_masks, place_garments
from tests.conftest import require_component


def slow_mask(image):
    """The mask of one image, component by component."""
    bright = (image > 3).astype(np.uint8)
    _, labels, table, _ = cv2.connectedComponentsWithStats(bright, connectivity=8)
    largest = table[1:, cv2.CC_STAT_AREA].max()
    garment = np.zeros(image.shape, dtype=bool)
    for label in range(1, len(table)):
        if table[label, cv2.CC_STAT_AREA] >= largest / 10:
            garment |= labels == label
    _, labels, table, _ = cv2.connectedComponentsWithStats((~garment).astype(np.uint8), connectivity=4)
    for label in range(1, len(table)):
        gap = labels == label
        open_to_border = gap[0].any() or gap[-1].any() or gap[:, 0].any() or gap[:, -1].any()
        if table[label, cv2.CC_STAT_AREA] < 16 and not open_to_border:
            garment |= gap
    return garment


def noisy_garments(count):
    """Random blobs with holes, specks and faint noise around."""
    generator = np.random.default_rng(0)
    smooth = np.stack([cv2.GaussianBlur(generator.random((28, 28)), (0, 0), 1.6) for _ in range(count)])
    images = np.where(smooth > 0.52, 40 + 200 * generator.random(smooth.shape), 0)
    return np.where(images == 0, generator.integers(0, 4, images.shape), images).astype(np.uint8)


def test_masks_agree_with_a_slow_reference():
    images = noisy_garments(40)
    assert (garment_masks(images) == np.stack([slow_mask(image) for image in images])).all()


def test_a_small_hole_is_filled_and_a_large_one_stays_open():
    images = np.zeros((2, 28, 28), dtype=np.uint8)
    images[:, 4:24, 4:24] = 200
    images[0, 10:13, 10:15] = 0
    images[1, 10:14, 10:14] = 0
    filled = garment_masks(images)
    assert filled[0].sum() == 400
    assert filled[1].sum() == 384


def test_a_speck_is_removed_and_a_second_large_part_stays():
    images = np.zeros((1, 28, 28), dtype=np.uint8)
    images[0, 2:12, 2:22] = 90
    images[0, 15:20, 2:12] = 90
    images[0, 25:27, 25:27] = 255
    mask = garment_masks(images)[0]
    assert mask[15:20, 2:12].all() and not mask[25:27, 25:27].any()


def test_masks_of_the_official_garments_hold_what_is_bright_and_none_is_empty():
    require_component(DEBIAN_FOLDER, "apt install dataset-fashion-mnist")
    images, _ = read_garments(DEBIAN_FOLDER, "test")
    assert len(images) == 10_000
    for chunk in np.split(images[::2], 5):
        masks = garment_masks(chunk)
        assert masks.sum(axis=(1, 2)).min() >= 30
        assert (masks == (chunk > 3)).mean() > 0.97


def test_a_garment_at_its_own_scale_is_pasted_pixel_by_pixel():
    garments = noisy_garments(3)
    backgrounds = np.random.default_rng(1).integers(0, 256, (3, 48, 48, 3), dtype=np.uint8)
    numbers = np.full((3, PLACE_NUMBERS), 0.25, dtype=np.float32)
    images, object_mask = place_garments(garments, backgrounds, numbers)
    corner = 1 + int(0.25 * 19)
    expected_mask = np.zeros((3, 48, 48), dtype=bool)
    expected_mask[:, corner : corner + 28, corner : corner + 28] = garment_masks(garments)
    assert (object_mask == expected_mask).all()
    assert (images[~object_mask] == backgrounds[~object_mask]).all()
    colours = garments[garment_masks(garments)][:, None].astype(float) * (0.8 + 0.2 * 0.25)
    assert np.abs(images[object_mask] - colours).max() <= 1


def test_a_dark_garment_stays_darker_than_the_ground_it_lies_on():
    garments = np.zeros((50, 28, 28), dtype=np.uint8)
    garments[:, 4:24, 4:24] = 4
    backgrounds = np.full((50, 48, 48, 3), 150, dtype=np.uint8)
    numbers = np.random.default_rng(3).random((50, PLACE_NUMBERS), dtype=np.float32)
    images, object_mask = place_garments(garments, backgrounds, numbers)
    assert images[object_mask].max() <= 4
    assert (images[~object_mask] == 150).all()
