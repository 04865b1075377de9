"""The tiles that the demo trains on."""

import itertools

import numpy as np
import torch
from PIL import Image
from scipy import stats

from maskrobust.errors import InputError
from maskrobust.train.data import Folder
from tests.conftest import refused
from tiles import CLASSES, draw_tiles, write_tiles

FEW = {"train": 12, "val": 8, "test": 9}


def is_bar(gap):
    """Whether a gap fills its bounding box, which neither disc, triangle nor cross does."""
    rows, columns = gap.any(axis=1), gap.any(axis=0)
    return bool(gap[np.ix_(rows, columns)].all())


def test_a_gap_has_the_shape_of_its_class_as_often_as_the_dose_says_and_lies_in_the_view():
    tiles = [*draw_tiles("test", 2000, seed=3)]
    bars = np.array([[is_bar(tile.gap) for tile in tiles[label::4]] for label in range(4)])
    for label, count in enumerate(bars.sum(axis=1)):
        assert stats.binomtest(int(count), 500, 0.9 + 0.1 / 4 if label == 1 else 0.1 / 4).pvalue > 1e-3
    every = np.stack([tile.gap for tile in tiles])
    sizes = every.sum(axis=(1, 2))
    assert (every[:, 2:34, 2:34].sum(axis=(1, 2)) > 0.8 * sizes).all()
    assert sizes.min() > 40 and sizes.max() < 0.15 * 32**2
    assert sum(is_bar(tile.gap) for tile in draw_tiles("val", 40, dose=1)) == 10


def test_tiles_follow_from_split_and_seed_and_a_larger_count_adds_to_them():
    few, more = [*draw_tiles("val", 5, seed=1)], [*draw_tiles("val", 9, seed=1)]
    assert [tile.label for tile in more] == [0, 1, 2, 3, 0, 1, 2, 3, 0]
    assert all(np.array_equal(a.picture, b.picture) and np.array_equal(a.gap, b.gap) for a, b in zip(few, more[:5]))  # noqa: B905
    others = [*draw_tiles("test", 5, seed=1)], [*draw_tiles("val", 5, seed=2)]
    assert not any(np.array_equal(a.picture, b.picture) for other in others for a, b in itertools.product(few, other))
    with refused(InputError, "dose must lie in [0, 1], got 2"):
        next(draw_tiles("val", 1, dose=2))


def test_a_folder_reads_their_gaps_as_pixels_without_data_and_nothing_of_what_lies_in_them(tmp_path):
    write_tiles(tmp_path, counts=FEW, seed=1)
    data = Folder(str(tmp_path), visible="alpha", image_size=32, batch_size=16, num_workers=0)
    assert data.class_names == CLASSES
    for split, count in FEW.items():
        (batch,) = data.whole_split(split)
        drawn = sorted(draw_tiles(split, count, seed=1), key=lambda tile: tile.label)
        assert batch.labels.tolist() == [tile.label for tile in drawn]
        gaps = torch.from_numpy(np.stack([tile.gap for tile in drawn]))[:, None, 2:34, 2:34]
        assert torch.equal(batch.visible, ~gaps)
        assert (batch.images.movedim(1, -1)[~batch.visible[:, 0]] == 0).all()
        assert not (batch.images == 0).all(dim=1)[batch.visible[:, 0]].any()
    pixels = np.asarray(Image.open(tmp_path / "test" / "town" / "0003.png"))
    assert pixels.shape == (37, 37, 4) and set(np.unique(pixels[..., 3])) == {0, 255}
    assert not pixels[pixels[..., 3] == 0].any()
