"""Garments and Fashion: masks are the garments, placed with them; official splits, and where the files come from."""

import cv2
import numpy as np
import pytest
import torch

from maskrobust.train.data import Fashion
from maskrobust.train.data.sets.fashion import (
    DEBIAN_FOLDER,
    PLACE_NUMBERS,
    garment_masks,
    place_garments,
    read_garments,
)
from tests.conftest import require_component
from tests.train.data.conftest import square_garments


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


SIZES = {"train_images": 24, "val_images": 6, "test_images": 10}


@pytest.fixture(scope="module")
def debian_data():
    require_component(DEBIAN_FOLDER, "apt install dataset-fashion-mnist")
    return Fashion(DEBIAN_FOLDER, train_images=1500, val_images=100, test_images=200)


def test_labels_are_those_of_the_garment_that_the_id_names(fashion_root):
    data = Fashion(fashion_root, **SIZES)
    for split, first in (("train", 0), ("val", 0), ("test", 60_000)):
        samples = data.samples(split)
        rows = (samples.ids - first).numpy()
        assert (samples.labels.numpy() == square_garments(40)[1][rows]).all()
        areas = (8 + rows % 12) ** 2
        assert stats_agree(areas, samples.object_mask)


def stats_agree(areas, object_mask):
    """Whether larger garments have larger masks, up to the random scale of 0.9 to 1.3."""
    ratio = np.sqrt(object_mask.sum(dim=(1, 2, 3)).numpy() / areas)
    return (ratio > 0.75).all() and (ratio < 1.5).all()


def test_the_training_garments_are_a_choice_by_seed_that_leaves_the_validation_garments_alone(fashion_root):
    small = Fashion(fashion_root, **SIZES)
    large = Fashion(fashion_root, **{**SIZES, "train_images": 34})
    other = Fashion(fashion_root, **SIZES, seed=1)
    assert torch.equal(small.samples("val").ids, large.samples("val").ids)
    assert set(small.samples("train").ids.tolist()) < set(large.samples("train").ids.tolist())
    assert not torch.equal(small.samples("train").ids, other.samples("train").ids)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train_images": 59_500}, r"^train_images \+ val_images must lie in \[2, 60000\], got 60500;"),
        (
            {"val_images": 60_000, "train_images": 1},
            r"^train_images \+ val_images must lie in \[2, 60000\], got 60001;",
        ),
        ({"test_images": 10_001}, r"^test_images must lie in \[1, 10000\], got 10001;"),
    ],
)
def test_more_images_than_exist_are_refused_at_once(fashion_root, arguments, message):
    with pytest.raises(ValueError, match=message):
        Fashion(fashion_root, **arguments)


@pytest.mark.parametrize(("split", "wanted", "held"), [("train", 41, 40), ("test", 21, 20)])
def test_files_that_hold_too_few_garments_are_refused(fashion_root, split, wanted, held):
    sizes = {"train_images": 35, "val_images": 6, "test_images": 21}
    message = (
        f"^the files in {fashion_root} must hold at least {wanted} garments for the {split} split, but hold {held};"
    )
    with pytest.raises(ValueError, match=message):
        Fashion(fashion_root, **sizes).samples(split)


def test_the_official_test_images_are_the_test_split_and_no_garment_is_in_two_splits(debian_data):
    ids = {split: set(debian_data.samples(split).ids.tolist()) for split in ("train", "val", "test")}
    assert {split: len(each) for split, each in ids.items()} == {"train": 1500, "val": 100, "test": 200}
    assert not ids["train"] & ids["val"]
    assert max(ids["train"] | ids["val"]) < 60_000 <= min(ids["test"])
    labels = read_garments(DEBIAN_FOLDER, "test")[1]
    test = debian_data.samples("test")
    assert (test.labels.numpy() == labels[test.ids.numpy() - 60_000]).all()
