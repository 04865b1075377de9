"""Photographs come from the installed package alone; crops are what plain slicing and averaging give."""

import socket
from pathlib import Path

import numpy as np
import pytest
import skimage.data

from maskrobust.train.data import Cues
from maskrobust.train.data.files import photographs
from maskrobust.train.data.files.photographs import CropSource, random_crop, random_crops, read_photograph, shift_light
from maskrobust.train.data.sets import cues, fashion

FILE_NAMES = sorted({source.file_name for source in (*cues.TEXTURES.values(), *cues.BACKGROUNDS, *fashion.BACKGROUNDS)})
KEEP = 0.9  # the number that neither flips nor transposes


@pytest.mark.parametrize("file_name", FILE_NAMES)
def test_every_photograph_ships_with_scikit_image(file_name):
    photograph = read_photograph(file_name)
    assert (Path(skimage.data.__file__).parent / file_name).is_file()
    assert photograph.dtype == np.uint8 and photograph.ndim == 3 and photograph.shape[2] == 3
    assert min(photograph.shape[:2]) >= 300


def test_nothing_is_fetched_from_the_network(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("tried to open a connection")

    monkeypatch.setattr(socket, "socket", refuse)
    read_photograph.cache_clear()
    Cues(train_images=16).samples("train")


def test_a_missing_photograph_is_named_with_the_way_out():
    with pytest.raises(FileNotFoundError, match=r"^scikit-image's photograph eagle\.tif was expected at .*; reinstall"):
        read_photograph("eagle.tif")


def test_a_photograph_cannot_be_changed_by_its_users():
    with pytest.raises(ValueError, match="read-only"):
        read_photograph("coffee.png")[0, 0] = 0


def test_a_crop_averages_blocks_of_the_chosen_square():
    photograph = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    numbers = np.array([0.0, 0.5, 0.25, KEEP, KEEP, KEEP], dtype=np.float32)
    crop = random_crop(photograph, 10, (0.5, 1.0), numbers)
    top, left = int(0.5 * 21), int(0.25 * 41)
    blocks = photograph[top : top + 20, left : left + 20].reshape(10, 2, 10, 2, 3).mean(axis=(1, 3))
    assert np.abs(crop - blocks).max() <= 0.5


@pytest.mark.parametrize(
    ("position", "turn"),
    [(3, lambda crop: crop[::-1]), (4, lambda crop: crop[:, ::-1]), (5, lambda crop: crop.transpose(1, 0, 2))],
    ids=["upside down", "mirrored", "transposed"],
)
def test_a_small_number_turns_the_crop(position, turn):
    numbers = np.array([0.3, 0.2, 0.6, KEEP, KEEP, KEEP], dtype=np.float32)
    straight = random_crop(read_photograph("coffee.png"), 16, (0.3, 0.9), numbers)
    numbers[position] = 0.1
    assert (random_crop(read_photograph("coffee.png"), 16, (0.3, 0.9), numbers) == turn(straight)).all()


def test_light_is_an_affine_map_of_the_colours():
    image = np.random.default_rng(1).integers(60, 180, (9, 9, 3), dtype=np.uint8)
    numbers = np.array([0.3, 0.4, 0.6, 0.1, 0.5, 0.9], dtype=np.float32)
    grey = image.astype(np.float64).mean(axis=2, keepdims=True)
    coloured = grey + (0.4 + 0.6 * numbers[0]) * (image - grey)
    level = 0.6 * grey.mean() + 0.4 * (64 + 128 * numbers[2])
    stretched = (0.75 + 0.5 * numbers[1]) * (coloured - grey.mean()) + level
    expected = np.clip(stretched * (0.9 + 0.2 * numbers[3:]), 0, 255)
    assert np.abs(shift_light(image, numbers) - expected).max() < 0.75


def test_every_sample_is_cut_from_the_source_chosen_for_it(monkeypatch):
    flat = {"dark": np.full((50, 50, 3), 20, np.uint8), "bright": np.full((50, 50, 3), 240, np.uint8)}
    monkeypatch.setattr(photographs, "read_photograph", flat.__getitem__)
    sources = [CropSource("dark", (0.2, 0.5)), CropSource("bright", (0.2, 0.5))]
    numbers = np.full((3, 6), 0.5, dtype=np.float32)
    crops = random_crops(sources, np.array([1, 0, 1]), 8, numbers, numbers)
    assert crops.shape == (3, 8, 8, 3)
    assert [round(float(crop.mean())) for crop in crops] == [195, 63, 195]
