"""Photographs come from the installed package alone; crops are what plain slicing and averaging give."""

import socket

import numpy as np

from maskrobust.train.data import Cues
from maskrobust.train.data.files import photographs
from maskrobust.train.data.files.photographs import CropSource, random_crop, random_crops, read_photograph

KEEP = 0.9  # the number that neither flips nor transposes


def test_nothing_is_fetched_from_the_network(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("tried to open a connection")

    monkeypatch.setattr(socket, "socket", refuse)
    read_photograph.cache_clear()
    Cues(train_images=16).samples("train")


def test_a_crop_averages_blocks_of_the_chosen_square():
    photograph = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    numbers = np.array([0.0, 0.5, 0.25, KEEP, KEEP, KEEP], dtype=np.float32)
    crop = random_crop(photograph, 10, (0.5, 1.0), numbers)
    top, left = int(0.5 * 21), int(0.25 * 41)
    blocks = photograph[top : top + 20, left : left + 20].reshape(10, 2, 10, 2, 3).mean(axis=(1, 3))
    assert np.abs(crop - blocks).max() <= 0.5


def test_every_sample_is_cut_from_the_source_chosen_for_it(monkeypatch):
    flat = {"dark": np.full((50, 50, 3), 20, np.uint8), "bright": np.full((50, 50, 3), 240, np.uint8)}
    monkeypatch.setattr(photographs, "read_photograph", flat.__getitem__)
    sources = [CropSource("dark", (0.2, 0.5)), CropSource("bright", (0.2, 0.5))]
    numbers = np.full((3, 6), 0.5, dtype=np.float32)
    crops = random_crops(sources, np.array([1, 0, 1]), 8, numbers, numbers)
    assert crops.shape == (3, 8, 8, 3)
    assert [round(float(crop.mean())) for crop in crops] == [195, 63, 195]
