"""What Weights & Biases and TensorBoard get, read back from where they put it."""

import json

import pytest
import torch
import wandb
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger
from torchvision.transforms.functional import pil_to_tensor

from maskrobust.lm_modules.callbacks.loggers import log_picture
from maskrobust.lm_modules.callbacks.reliance import TABLE_COLUMNS
from tests.lm_modules.callbacks.runs import VALIDATION, callback, csv_logger, fit, logged


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a real offline run of two measured epochs, logged to CSV as well."""
    folder = tmp_path_factory.mktemp("offline")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        loggers = [WandbLogger(save_dir=folder, project="test", offline=True), csv_logger(folder / "scalars")]
        fit(loggers, callback(), epochs=2)
        wandb.finish()
    return folder


def test_weights_and_biases_gets_a_picture_of_each_measured_epoch(folder):
    pictures = [*folder.rglob("media/images/reliance/shown*.png")]
    assert len(pictures) == 2
    image = VALIDATION[0].images[0]
    for picture in pictures:
        with Image.open(picture) as panel:
            assert panel.width > 3 * image.shape[-1]
            first = pil_to_tensor(panel)[:, 2 : 2 + image.shape[-2], 2 : 2 + image.shape[-1]]
            assert (first / 255 - image).abs().max() <= 1 / 255


def test_weights_and_biases_gets_one_table_that_grows_with_the_epochs(folder):
    tables = [json.loads(path.read_text()) for path in folder.rglob("media/table/reliance/rows*.table.json")]
    first, second = sorted((table["data"] for table in tables), key=len)
    assert all(table["columns"] == list(TABLE_COLUMNS) for table in tables)
    assert second[: len(first)] == first
    assert {row[0] for row in first} == {0} and {row[0] for row in second[len(first) :]} == {1}


def test_the_table_and_the_scalars_are_the_same_numbers(folder):
    last = max(folder.rglob("media/table/reliance/rows*.table.json"), key=lambda path: path.stat().st_size)
    scalars = logged(folder / "scalars")
    for epoch, method, measure, *numbers, _, _ in json.loads(last.read_text())["data"]:
        name = f"reliance/{method}/{measure}"
        for end, number in zip(("", "_low", "_high"), numbers, strict=True):
            assert number is None or scalars[name + end][epoch] == pytest.approx(number, abs=1e-6)
        assert (numbers[1] is None) == (measure == "hidden_pixel_sensitivity")


def test_tensorboard_gets_the_picture(monkeypatch):
    """Its writer is no dependency, so a stand-in takes its place."""
    shown = []

    class Writer:
        def add_image(self, tag, img_tensor, global_step):
            shown.append((tag, img_tensor, global_step))

    monkeypatch.setattr(TensorBoardLogger, "experiment", Writer())
    picture = torch.rand(3, 8, 8)
    log_picture([TensorBoardLogger.__new__(TensorBoardLogger)], "reliance/shown", picture, "image | black", step=7)
    assert shown == [("reliance/shown", picture, 7)]
