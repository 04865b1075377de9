"""Four bands of any type from training to prediction, and how their numbers are read."""

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from maskrobust import MaskRobustClassifier, load_network
from maskrobust.errors import InputError
from maskrobust.lm_modules.networks.named import network_to_train
from maskrobust.train.cli import main
from maskrobust.train.data import Folder
from maskrobust.train.data.files.reading import Reading
from maskrobust.train.explain.pictures import read_picture
from tests.train.runs import table
from tests.train.test_cli import sentence_of
from tests.train.tiny import FEW_MEASURES, TWO_STEPS

SIDE = 40
BANDS = np.random.default_rng(0).integers(0, 10_000, (4, SIDE, SIDE + 2), dtype=np.uint16)


def tiff(numbers, **options):
    stream = io.BytesIO()
    tifffile.imwrite(stream, numbers, **options)
    return stream.getvalue()


def array(numbers):
    stream = io.BytesIO()
    np.save(stream, numbers)
    return stream.getvalue()


def gdal(value):
    return {"extratags": [(42113, "s", 0, f"{value}", True)]}


LAST = BANDS.transpose(1, 2, 0)
GREY = {"photometric": "minisblack"}
TILED = {"tile": (16, 16), "compression": "zlib", "predictor": True, "byteorder": ">"}
STORED = {
    "band by band": tiff(BANDS, planarconfig="separate", **GREY),
    "pixel by pixel": tiff(LAST, planarconfig="contig", **GREY),
    "tiled, compressed, big-endian": tiff(LAST, planarconfig="contig", **TILED, **GREY),
    "as colours and opacity": tiff(BANDS, planarconfig="separate", photometric="rgb"),  # as tifffile takes four bands
    "pages": tiff(BANDS, **GREY),
    "an array": array(BANDS),
    "an array, bands last": array(LAST),
}  # fmt: skip


@pytest.mark.parametrize("way", STORED)
def test_bands_are_the_numbers_of_the_file_by_the_range_that_is_given(way):
    expected = torch.from_numpy((BANDS / 10_000).astype(np.float32))
    found, visible = Reading(value_range=(0, 10_000)).decode(STORED[way], "a")
    assert visible is None and torch.equal(found, expected)
    by_type = Reading().decode(STORED[way], "a")[0]
    assert torch.equal(by_type, torch.from_numpy((BANDS / 65_535).astype(np.float32)))
    clipped = Reading(value_range=(2_000, 5_000)).decode(STORED[way], "a")[0]
    assert torch.equal(clipped, torch.from_numpy(((BANDS / 1.0 - 2000) / 3000).clip(0, 1).astype(np.float32)))


HOLE = np.zeros((SIDE, SIDE + 2), dtype=bool)
HOLE[5:20, 8:30] = True
WITH_ALPHA = np.concatenate([BANDS, np.uint16(9) * ~HOLE[None]])
FLOATS = (BANDS / 10_000).astype(np.float32)


@pytest.mark.parametrize(
    ("content", "given"),
    [
        (tiff(np.where(HOLE, 0, BANDS + np.uint16(1)), planarconfig="separate", **GREY), 0),
        (tiff(np.where(HOLE, 7, BANDS + np.uint16(8)), planarconfig="separate", **GREY, **gdal(7)), "nodata"),
        (tiff(np.where(HOLE, np.float32(-9999.9), FLOATS), planarconfig="separate", **GREY), -9999.9),
        (tiff(np.where(HOLE, -9999, FLOATS), planarconfig="separate", **GREY, **gdal(-9999)), "nodata"),
        (tiff(np.where(HOLE, np.nan, FLOATS), planarconfig="separate", **GREY), "nan"),
        (array(np.where(HOLE, np.nan, FLOATS)), "nan"),
        (tiff(WITH_ALPHA, planarconfig="separate", photometric="rgb", extrasamples=[0, 2]), "alpha"),
    ],
    ids=["a value", "GeoTIFF's value", "a float", "GeoTIFF's float", "NaN", "NaN in an array", "alpha"],
)  # fmt: skip
def test_hidden_pixels_of_bands_are_told_by_every_number_and_become_0(content, given):
    image, visible = Reading(given).decode(content, "a")
    assert visible is not None and np.array_equal(~visible[0].numpy(), HOLE)
    assert image.shape == (4, SIDE, SIDE + 2) and not image[:, HOLE].any() and image.isfinite().all()
    assert image[:, ~HOLE].amax() > 0.1


@pytest.mark.parametrize("tag", [gdal(7), {}], ids=["with a value", "without one"])
def test_a_photograph_in_a_geotiff_is_hidden_where_it_holds_the_value_that_its_tag_calls_none(tag):
    grey = np.where(HOLE, 7, 8 + BANDS[0] % 200).astype(np.uint8)
    image, visible = Reading("nodata").decode(tiff(grey, **GREY, **tag), "a")
    assert visible is not None and np.array_equal(~visible[0].numpy(), HOLE & bool(tag))
    assert image.shape == (3, *HOLE.shape) and image.dtype == torch.uint8


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (tiff(np.where(HOLE, np.nan, FLOATS), **GREY), {}, "hide NaN (--data.visible nan)"),
        (tiff(FLOATS * 300, **GREY), {}, r"holds numbers from 0.* to 299.*; say which become 0 and 1 (--data.value_ra"),
        (tiff(BANDS.astype(np.int16), **GREY), {}, "say which become 0 and 1"),
        (tiff(BANDS, **GREY, **gdal(0)), {}, "calls 0 no data; hide such pixels (--data.visible nodata)"),
        (tiff(BANDS, **GREY), {"visible": 70_000}, "nodata must be a value of the images"),
        (tiff(BANDS, planarconfig="separate", **GREY)[:2000], {}, "cannot be read by its bands"),
        (array(np.array([{}])), {}, "cannot be read by its bands"),
    ],
)  # fmt: skip
def test_numbers_without_a_meaning_are_refused(content, options, said):
    with pytest.raises(InputError) as refusal:
        Reading(**options).decode(content, "a")
    assert all(part in str(refusal.value) for part in said.split(".*"))


def test_what_tifffile_alone_cannot_read_is_read_by_rasterio_where_it_is_installed(monkeypatch):
    stream = io.BytesIO()
    Image.fromarray(BANDS[0]).save(stream, "tiff", compression="tiff_lzw")
    monkeypatch.setitem(sys.modules, "rasterio.errors", None)
    with pytest.raises(InputError, match="and rasterio, which can, is missing: pip install rasterio"):
        Reading(value_range=(0, 10_000)).decode(stream.getvalue(), "a")

    class File(io.BytesIO):
        """As rasterio's MemoryFile: opened, it gives a data set."""

        def open(self):
            return self

        def read(self):
            return BANDS[:1] if self.getvalue() == stream.getvalue() else None

    for name, content in {"errors": {"NotGeoreferencedWarning": UserWarning}, "io": {"MemoryFile": File}}.items():
        monkeypatch.setitem(sys.modules, f"rasterio.{name}", SimpleNamespace(**content))
    found, _ = Reading(value_range=(0, 10_000)).decode(stream.getvalue(), "a")
    assert torch.equal(found, torch.from_numpy((BANDS[:1] / 10_000).astype(np.float32)))


def write(root, kind="tif"):
    """Tiles of two classes, which one band tells, with gaps of 0."""
    generator = np.random.default_rng(1)
    for split, count in {"train": 16, "val": 8}.items():
        for number in range(count):
            tile = generator.integers(100, 3000, (4, SIDE, SIDE), dtype=np.uint16)
            tile[3] += np.uint16(4000 * (number % 2))
            tile[:, 10:20, 5 : 15 + number] = 0
            path = root / split / ("field", "forest")[number % 2] / f"{number}.{kind}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(array(tile) if kind == "npy" else tiff(tile, planarconfig="separate", **GREY))
    return root


@pytest.mark.parametrize(("kind", "architecture"), [("tif", "timm/test_resnet"), ("npy", "small_resnet")])
def test_four_bands_are_trained_on_evaluated_predicted_and_explained(kind, architecture, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "pytorch_lightning")
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "tiles", kind)
    data = ["--data=Folder", "--data.root=tiles", "--data.visible=0", "--data.value_range=[0, 10000]"]
    data += ["--data.image_size=32", "--data.num_workers=0", "--data.batch_size=8", "--data.show_bands=[4, 2, 1]"]
    model = [f"--model.architecture={architecture}", "--model.in_channels=4", "--model.masking=layer_masking"]
    main(["fit", *data, *model, *TWO_STEPS, "--trainer.default_root_dir=runs"])
    checkpoint = "runs/run/version_0/checkpoints/last.ckpt"
    network = load_network(checkpoint)
    assert len(network.preprocessing.mean) == 4 and 0.2 < network.preprocessing.mean[3] < 0.5
    assert network.read_as == {"visible": 0, "value_range": [0, 10000], "show_bands": [4, 2, 1]}
    caplog.clear()
    plain = ["--data=Folder", "--data.root=tiles", "--data.image_size=32", "--data.num_workers=0"]
    main(["evaluate", *plain, f"--network={checkpoint}", *FEW_MEASURES, "--plan.transfer_families=[slic]", "--out=out"])
    assert all(f"{option}: " in caplog.text for option in ("visible", "value_range", "show_bands"))
    main(["predict", f"--network={checkpoint}", "--images=tiles/val", "--out=new.csv", "--num_workers=0"])
    rows = table(Path("new.csv"))
    assert len(rows) == 8 and all(row["error"] == "" and 0 < float(row["visible_fraction"]) < 1 for row in rows)
    one = f"--images=tiles/val/field/0.{kind}"
    main(["explain", f"--network={checkpoint}", one, "--quick", "--image_size=32", "--out=explained"])
    again = [f"--model.weights={checkpoint}", "--run_name=again", "--trainer.default_root_dir=runs"]
    main(["fit", *data, f"--model.architecture={architecture}", *again, *TWO_STEPS])


def test_a_file_of_other_bands_and_another_number_of_channels_are_told_before_the_first_step(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "tiles")
    fit = ["fit", "--data=Folder", "--data.root=tiles", "--trainer.max_epochs=1", "--model.architecture=small_resnet"]
    assert "in_channels must be the number of bands of the data, 4, got 5" in sentence_of(
        [*fit, "--model.in_channels=5"], capsys
    )
    options = "--model.architecture_options={in_chans: 3}"
    assert "in_chans must be the number of bands of the data, 4, got 3" in sentence_of([*fit, options], capsys)
    assert "show_bands must be at most 4" in sentence_of([*fit, "--data.show_bands=[5, 1, 1]"], capsys)
    (tmp_path / "tiles" / "train" / "field" / "odd.tif").write_bytes(tiff(BANDS[0], **GREY))
    said = sentence_of(fit, capsys)
    assert "odd.tif' has 3 bands of torch.uint8, but" in said and "has 4 of torch.float32" in said
    other = ["evaluate", "--data=Folder", "--data.root=tiles", "--network=small_resnet:random", "--out=out"]
    assert "takes images of 3 bands, but these have 4" in sentence_of(other, capsys)


def test_a_picture_to_explain_shows_the_bands_that_it_is_read_with(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff(BANDS, planarconfig="separate", **GREY))
    reading = Reading(value_range=(0, 10_000), show_bands=(4, 2, 1))
    assert read_picture("a", tmp_path / "a.tif", 32, reading).show_bands == (4, 2, 1)


def test_a_network_of_torchvision_takes_bands_by_another_first_convolution():
    network = network_to_train("shufflenet_v2_x0_5", 5, None, None, in_channels=4)
    first = network_to_train("shufflenet_v2_x0_5", 5, None, None).conv1[0]
    assert str(network.conv1[0]) == str(first).replace("Conv2d(3,", "Conv2d(4,")


@pytest.mark.parametrize("bands", [1, 2, 4, 6])
def test_weights_of_three_colours_are_adapted_as_timm_adapts_them(bands, tmp_path):
    import timm

    torch.manual_seed(0)
    colours = timm.create_model("resnet18", num_classes=5)
    torch.save(colours.state_dict(), tmp_path / "a.pt")
    found = network_to_train("timm/resnet18", 5, None, str(tmp_path / "a.pt"), in_channels=bands)
    expected = timm.create_model(
        "resnet18",
        num_classes=5,
        in_chans=bands,
        pretrained=True,
        pretrained_cfg_overlay={"file": str(tmp_path / "a.pt"), "num_classes": 5, "first_conv": "conv1"},
    )
    for (name, one), other in zip(found.state_dict().items(), expected.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_mean_and_deviation_are_of_visible_pixels_by_band(tmp_path):
    data = Folder(
        str(write(tmp_path)), visible=0, value_range=(0, 10_000), image_size=32, transform="none", num_workers=0
    )
    data.setup("train")
    shown = [each for batch in data.whole_split("train") for each in [batch.images.movedim(1, -1)[batch.known[:, 0]]]]
    pixels = torch.cat(shown).double()
    assert torch.tensor(data.mean).sub(pixels.mean(0)).abs().max() < 0.02
    assert torch.tensor(data.std).sub(pixels.std(0)).abs().max() < 0.05 and min(data.mean) > 0.1


def test_images_of_other_bands_are_refused_by_a_training_step():
    model = MaskRobustClassifier("small_resnet", 2, mean=(0.5,) * 4, std=(0.2,) * 4)
    with pytest.raises(InputError, match="takes images of 4 bands, as many as mean has, got 3"):
        model(torch.rand(1, 3, 32, 32))
