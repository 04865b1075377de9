"""`maskrobust predict` of a segmenter's checkpoint: class rasters, where the tiles lie."""

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from maskrobust.train.cli import main
from maskrobust.train.predict.rasters import write_raster
from tests.lm_modules.training.test_segmenter import TinyUNet, batch, segmenter
from tests.train.runs import table
from tests.train.test_cli import sentence_of
from tests.trainers import quiet_trainer

SIZES, SCALE = [(32, 32), (40, 64)], 10_000


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A trained network, and the name of its checkpoint."""
    model, path = segmenter(), tmp_path_factory.mktemp("trained") / "net.ckpt"
    trainer = quiet_trainer(max_steps=1)
    data = torch.utils.data.DataLoader([batch()], batch_size=None)
    trainer.fit(model, data, data)
    trainer.save_checkpoint(path)
    return model.eval().trained_network(), f"{TinyUNet.__module__}.TinyUNet:{path}"


@pytest.fixture
def tiles(tmp_path):
    """Tiles of four bands of float32 with a hole of NaN."""
    rng, found = np.random.default_rng(0), {}
    for number, (height, width) in enumerate(SIZES):
        pixels = rng.random((4, height, width), dtype=np.float32)
        pixels[:, 4:14, 6 : 12 + number] = np.nan
        path = tmp_path / "tiles" / f"deep/{number}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="separate")
        found[path] = pixels
    return found


def predicted(network, tiles, out, *options):
    folder = next(iter(tiles)).parent.parent
    return ["predict", f"--network={network}", f"--images={folder}", f"--out={out}", "--data.visible=nan", *options]


@torch.no_grad()
@pytest.mark.parametrize("method", [None, "black"])
def test_a_raster_has_the_class_of_each_visible_pixel_and_255_elsewhere(network, tiles, tmp_path, method):
    net, name = network
    main(predicted(name, tiles, tmp_path / "out", *([f"--methods=[{method}]"] if method else [])))
    for path, pixels in tiles.items():
        images, visible = torch.from_numpy(pixels)[None].nan_to_num(0.0), torch.from_numpy(~np.isnan(pixels[:1]))[None]
        logits = net.predictor(method or "layer_masking")(images, visible, torch.zeros(1, dtype=torch.int64))
        raster = tifffile.imread(tmp_path / "out" / "deep" / path.name)
        assert raster.dtype == np.uint8
        assert np.array_equal(raster, logits.argmax(dim=1).masked_fill(~visible[:, 0], 255)[0].numpy())
    assert [row["value"] for row in table(tmp_path / "out" / "classes.csv")] == ["0", "1", "2"]


def test_a_raster_lies_where_its_tile_does(tmp_path):
    """Tags as rasterio writes them for EPSG:32633, read by Pillow."""
    keys = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633)
    place = {33550: (10.0, 20.0, 0.0), 33922: (0.0, 0.0, 0.0, 4e5, 5e6, 0.0), 34735: keys, 34737: "UTM zone 33N|"}
    kinds = {33550: "d", 33922: "d", 34735: "H", 34737: "s"}
    tags = [(code, kinds[code], 0 if kinds[code] == "s" else len(of), of, True) for code, of in place.items()]
    tile = tmp_path / "tile.tif"
    tifffile.imwrite(tile, np.zeros((4, 20, 30), np.uint16), photometric="minisblack", extratags=tags)
    for kind in (np.uint8, np.uint16):
        classes = np.arange(600, dtype=kind).reshape(20, 30)
        write_raster(tmp_path / "classes.tif", tile, classes)
        with Image.open(tmp_path / "classes.tif") as found:
            assert {code: found.tag_v2[code] for code in place} == place
            assert found.tag_v2[42113] == str(np.iinfo(kind).max) and np.array_equal(found, classes)


def test_what_cannot_be_is_refused_in_a_sentence(network, tiles, tmp_path, capsys):
    name = network[1]
    for options, said in (
        ([f"--features={tmp_path}/f.npz"], "classifies pixels, and takes no features; leave that out"),
        (["--top=3"], "takes no top"),
        (["--methods=[black, layer_masking]"], "one class for each pixel, got 2 methods; name one"),
    ):
        assert said in sentence_of(predicted(name, tiles, tmp_path / "no", *options), capsys)
    for path, pixels in tiles.items():
        tifffile.imwrite(path, pixels[:2], photometric="minisblack", planarconfig="separate")
    told = sentence_of(predicted(name, tiles, tmp_path / "no"), capsys)
    assert "none of 2 files could be predicted; the first: " in told and "it has 2 bands, and not 4" in told
