"""`Tiles`: labels and visible pixels of each pixel as the files have them, and bad files in one sentence."""

import sys

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from maskrobust.errors import InputError
from maskrobust.train.data import Tiles
from maskrobust.train.data.files.reading import Reading
from tests.train.data.layouts import joined
from tests.train.test_cli import sentence_of

SIDE, NAMES, GREY = 64, ["water", "field", "town"], {"photometric": "minisblack"}
PLACES = np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE)
"""The first band of each tile: where a pixel lies."""


def labels_of(number):
    """(SIDE, SIDE) uint8: a class that a pixel's place and its tile say, and some without one."""
    return np.where(PLACES % 7 == 0, 255, (PLACES // 5 + number) % len(NAMES)).astype(np.uint8)


def hidden_in(number):
    """(SIDE, SIDE) bool, the clouds of a tile."""
    hidden = np.zeros((SIDE, SIDE), dtype=bool)
    hidden[4 + number : 20, 10:30] = True
    return hidden


def write_tiles(root, counts=(5, 3), bands=2, kind="tif", masks=True):
    """Splits of uint16 tiles with clouds, with label maps as PNG and TIFF in turn."""
    for split, count in zip(("train", "val"), counts, strict=True):
        for folder in ("images", "labels", "visible")[: 2 + masks]:
            (root / split / folder).mkdir(parents=True)
        for number in range(count):
            tile = np.stack([PLACES] + [np.full_like(PLACES, 100 * number + band) for band in range(1, bands)])
            path, planar = (
                root / split / "images" / f"{number}.{kind}",
                GREY | {"planarconfig": "separate"} if bands > 1 else GREY,
            )
            np.save(path, tile) if kind == "npy" else tifffile.imwrite(path, tile.squeeze(), **planar)
            if number % 2:
                Image.fromarray(labels_of(number)).save(root / split / "labels" / f"{number}.png")
            else:
                tifffile.imwrite(root / split / "labels" / f"{number}.tif", labels_of(number))
            if masks:
                Image.fromarray(~hidden_in(number)).save(root / split / "visible" / f"{number}.png")
    return root


def tiles(root, **options):
    given = {"crop_size": 32, "batch_size": 2, "num_workers": 0, "value_range": (0, SIDE * SIDE)} | options
    return Tiles(str(root), NAMES, **given)


@pytest.mark.parametrize("kind", ["tif", "npy"])
@pytest.mark.parametrize("transform", ["cut", "none", "crop_flip", "light"])
def test_each_visible_pixel_of_a_view_has_the_label_of_its_place_and_evaluation_sees_whole_tiles(
    tmp_path, kind, transform
):
    data = tiles(write_tiles(tmp_path, kind=kind), transform=transform, mean=(0.5, 0.5), std=(0.2, 0.2))
    data.setup("fit")
    whole = joined(data.val_dataloader())
    assert whole.images.shape == (3, 2, SIDE, SIDE) and whole.labels.dtype == torch.int64
    for number in range(3):
        assert np.array_equal(whole.labels[number], labels_of(number))
        assert np.array_equal(~whole.known[number, 0], hidden_in(number))
        places = whole.images[number, 0].double() * SIDE * SIDE
        assert np.allclose(places, np.where(hidden_in(number), 0, PLACES), atol=1e-3)
    of_id = {file.id: int(file.image.stem) for file in data.files("train")}
    seen = joined(data.train_dataloader())
    assert seen.images.shape == (5, 2, 32, 32) and seen.labels.shape == (5, 32, 32)
    assert (seen.labels[~seen.known[:, 0]] == 255).all() and seen.known.any() and not seen.known.all()
    if transform != "cut":
        return
    for one in map(seen.select, range(5)):
        places, number = (one.images[0].double() * SIDE * SIDE).round().long(), of_id[int(one.ids)]
        shown = one.known[0]
        assert np.array_equal(one.labels[shown], labels_of(number).flat[places[shown].numpy()])
        assert not hidden_in(number).flat[places[shown].numpy()].any()
        rows, columns = (places // SIDE)[shown], (places % SIDE)[shown]
        assert rows.max() - rows.min() < 32 and columns.max() - columns.min() < 32


def test_what_is_visible_is_said_by_masks_and_a_value_together_and_the_range_is_kept(tmp_path):
    root = write_tiles(tmp_path)
    data = tiles(root, visible=7.0)
    assert data.read_as == {"value_range": [0, SIDE * SIDE], "visible": 7.0} and data.show_bands is None
    path = root / "val" / "images" / "1.tif"
    tile = tifffile.imread(path)
    tile[:, 40:44, 5:9] = 7
    tifffile.imwrite(path, tile, planarconfig="separate", **GREY)
    known = joined(data.whole_split("val")).known[1, 0]
    assert not known[40:44, 5:9].any() and np.array_equal(~known[:40], hidden_in(1)[:40])


def test_a_tile_of_which_nothing_is_visible_stays_in_its_batch(tmp_path):
    root = write_tiles(tmp_path)
    for number in range(5):
        Image.fromarray(np.zeros((SIDE, SIDE), dtype=bool)).save(root / "train" / "visible" / f"{number}.png")
    seen = joined(tiles(root, mean=(0.5, 0.5), std=(0.2, 0.2)).train_dataloader())
    assert not seen.known.any() and (seen.labels == 255).all() and not seen.images.any()


def spoil(root, how):
    """Make a file of the training bad."""
    folder = root / "train"
    image, label, number = folder / "images" / "2.tif", folder / "labels" / "2.tif", np.full((SIDE, SIDE), 3, np.uint8)
    match how:
        case "label":
            tifffile.imwrite(label, number)
        case "size":
            tifffile.imwrite(label, number[:40])
        case "missing":
            label.unlink()
        case "mask":
            (folder / "visible" / "2.png").unlink()
        case "floats":
            tifffile.imwrite(label, number.astype(np.float32))
        case "colours":
            tifffile.imwrite(label, np.zeros((SIDE, SIDE, 3), np.uint8), photometric="rgb")
        case "rows":
            tifffile.imwrite(image, np.zeros((SIDE, 40, 2), np.uint16), **GREY)
        case "bands":
            tifffile.imwrite(image, np.zeros((3, SIDE, SIDE), np.uint16), planarconfig="separate", **GREY)
        case "LZW":
            Image.fromarray(PLACES).save(image, compression="tiff_lzw")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (
            "label",
            "labels must be classes from 0 to 2, or 255 where there is none, got 3 in '.*2.tif'; set ignore_index",
        ),
        ("size", r"labels/2.tif' must have the size of its image.* \(64, 64\) \(height, width\), got \(40, 64\)"),
        ("missing", "must have a file of its name in '.*/train/labels', but 'train/images/2.tif' has none; add it"),
        ("mask", "must have a file of its name in '.*/train/visible', but 'train/images/2.tif' has none; add it"),
        ("floats", "must hold one band of whole numbers, got 1 of torch.float32; write it as uint8"),
        ("colours", "must hold one band of whole numbers, got 3 of torch.uint8"),
        ("rows", r"its 64 pages look like rows of an image \(H, W, C\), .* planarconfig='contig'"),
        ("bands", "has 2 bands of torch.float32, but '.*2.tif' has 3 bands of torch.float32; give"),
        ("LZW", "imagecodecs.* pip install rasterio"),
    ],
)
def test_a_bad_file_is_named_in_one_sentence_before_a_training(tmp_path, monkeypatch, how, said):
    monkeypatch.setitem(sys.modules, "rasterio.errors", None)
    root = write_tiles(tmp_path, bands=1 if how == "LZW" else 2)
    spoil(root, how)
    with pytest.raises(InputError, match=said):
        tiles(root, mean=(0.5, 0.5), std=(0.2, 0.2)).setup("fit")


def test_tiles_of_several_sizes_need_batches_of_one(tmp_path):
    root = write_tiles(tmp_path, masks=False)
    tifffile.imwrite(root / "val" / "images" / "2.tif", np.zeros((2, SIDE, 40), np.uint16), planarconfig="separate")
    tifffile.imwrite(root / "val" / "labels" / "2.tif", labels_of(2)[:, :40])
    with pytest.raises(InputError, match=r"tiles of a batch must have one size, .*give --data.batch_size 1"):
        joined(tiles(root, batch_size=3).val_dataloader())
    assert [each.labels.shape[2] for each in tiles(root, batch_size=1).val_dataloader()] == [SIDE, SIDE, 40]
    tifffile.imwrite(root / "val" / "labels" / "2.tif", labels_of(2))
    with pytest.raises(InputError, match=r"labels/2.tif' must have the size of its image"):
        joined(tiles(root, batch_size=1).val_dataloader())


@pytest.mark.parametrize("command", ["fit", "explain", "masks", "shards", "claim"])
def test_commands_for_one_class_of_an_image_refuse_tiles_in_a_sentence(tmp_path, capsys, command):
    data = ["--data=Tiles", f"--data.root={write_tiles(tmp_path)}", f"--data.class_names={NAMES}"]
    more = {
        "fit": ["--trainer.max_epochs=1", f"--trainer.default_root_dir={tmp_path / 'runs'}"],
        "explain": ["--network=small_resnet:random", f"--out={tmp_path / 'out'}"],
        "claim": ["--config=claim_cues.yaml", f"--out={tmp_path / 'out'}"],
    }
    said = sentence_of([command, *more.get(command, [f"--out={tmp_path / 'out'}"]), *data], capsys)
    assert "needs a class for each image, but Tiles has one for each pixel; train on them by maskrobust segment" in said


TYPES = {"uint8": [0], "uint16": [0], "int16": [0, -9999], "float32": [0, -9999, float("nan")]}


@pytest.mark.parametrize("compression", ["none", "deflate", "lzw"])
@pytest.mark.parametrize("bands", [1, 4, 13])
def test_visible_is_the_mask_of_rasterio_whatever_the_bands_type_compression_and_value(tmp_path, bands, compression):
    written = pytest.importorskip("rasterio")
    place = written.Affine.translation(10, 50)
    for name, values in TYPES.items():
        draw = np.random.default_rng(bands).integers(1, 200, (bands, 40, 56)).astype(name)
        for nodata in values:
            numbers = draw.copy()
            numbers[:, 5:20, 8:30] = nodata
            numbers[0, 30:, 40:] = 1 if np.isnan(nodata) else nodata  # in one band, of several
            path = tmp_path / f"{name}{nodata}.tif"
            profile = {
                "driver": "GTiff",
                "width": 56,
                "height": 40,
                "count": bands,
                "dtype": name,
                "transform": place,
                "photometric": "MINISBLACK",
            }
            predictor = {} if compression == "none" else {"predictor": 3 if name == "float32" else 2}
            with written.open(path, "w", **profile, nodata=nodata, compress=compression, **predictor) as file:
                file.write(numbers)
            with written.open(path) as file:
                expected = file.dataset_mask() != 0
            image, visible = Reading("nodata", (-10_000, 10_000)).read(path, "")
            assert visible is not None and np.array_equal(visible[0], expected) and not expected.all()
            shown = (numbers.astype(np.float64) + 10_000) / 20_000
            assert np.allclose(image[:, expected], shown[:, expected], atol=1e-6)
