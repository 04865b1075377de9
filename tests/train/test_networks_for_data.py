"""Networks by name as commands ask them: a checkpoint sees pictures as its training did."""

import pytest
import pytorch_lightning as pl
import torch

from maskrobust import MaskRobustClassifier, load_network
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.train import networks
from maskrobust.train.cli import main
from maskrobust.train.data import Cues
from maskrobust.train.networks import load_for
from tests.train.tiny import TINY_DATA


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Of a network that was trained, for a step, on pictures of 48 pixels."""
    path = tmp_path_factory.mktemp("trained") / "last.ckpt"
    options = {"enable_checkpointing": False, "enable_progress_bar": False, "logger": False}
    trainer = pl.Trainer(max_steps=1, limit_val_batches=0, accelerator="cpu", **options)
    classifier = MaskRobustClassifier(num_classes=8, architecture_options={"width": 16})
    trainer.fit(classifier, datamodule=Cues(**TINY_DATA))
    trainer.save_checkpoint(path)
    return str(path)


@pytest.mark.parametrize("exported", [False, True])
def test_size_and_crop_of_the_training_travel_with_the_checkpoint_and_its_export(exported, checkpoint, tmp_path):
    if exported:
        main(["export", f"--network={checkpoint}", f"--out={tmp_path / 'exported'}"])
    network = load_network(str(tmp_path / "exported") if exported else checkpoint)
    assert (network.preprocessing.size, network.preprocessing.crop) == ((48, 48), Cues.crop_fraction)
    images = torch.rand(2, 3, 96, 96)
    shown = Preprocessing(size=(48, 48), crop=Cues.crop_fraction).resize(images)
    plain = network.with_preprocessing(Preprocessing(network.preprocessing.mean, network.preprocessing.std))
    torch.testing.assert_close(network(images), plain(shown))
    view, hole = torch.ones(2, 1, 96, 96, dtype=torch.bool), torch.zeros(2, dtype=torch.int64)
    view[:, :, 30:60, 30:60] = False
    for method in ("black", "layer_masking"):
        assert network.predictor(method)(images, view, hole).shape == (2, 8)


def test_a_line_says_where_pictures_have_another_size_than_those_of_the_training(checkpoint, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(networks, "rank_zero_info", said.append)
    same, large = (Cues(**{**TINY_DATA, "image_size": side}) for side in (48, 96))
    assert load_for(checkpoint, same, "32").preprocessing.crop == 1.0  # the data's pictures are cut already
    assert said == []
    load_for(checkpoint, large, "32")
    load_for(checkpoint, None, "32", image_size=224)
    load_for(checkpoint, large, "32", preprocess={"size": 96})
    assert said == [
        f"{checkpoint}: pictures of {side} pixels are shown at 48 x 48, as in its training" for side in (96, 224)
    ]
