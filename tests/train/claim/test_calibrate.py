"""What a calibration is fitted on: the first training images, each with its own hole, and the network's own word."""

from io import StringIO

import pytest
import torch
import yaml
from rich.console import Console
from torch import Tensor

from maskrobust.lm_modules.calibration import AffineCalibration
from maskrobust.lm_modules.networks.weights import read_state_dict
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.train.claim import arms
from maskrobust.train.claim.arguments import parse_config
from maskrobust.train.claim.progress import Progress
from tests.train.tiny import tiny_claim

Fit = tuple[Tensor, Tensor]


@pytest.fixture
def fits(monkeypatch):
    """What is fitted, in place of a fit; 20 images are enough."""
    asked: list[Fit] = []

    def fit(masked_logits, targets):
        asked.append((masked_logits, targets))
        return AffineCalibration(torch.full((4, 4), float(len(asked))), torch.zeros(4))

    monkeypatch.setattr(arms, "fit_calibration", fit)
    monkeypatch.setattr(arms, "CALIBRATION_IMAGES", 20)
    return asked


def calibrated(folder, batch_size, monkeypatch):
    """An untrained network, the first 20 training images, and what a calibration of that network has learned."""
    path = tiny_claim("claim_cues.yaml", folder / "claim.yaml")
    content = yaml.safe_load(path.read_text())
    content["data"]["init_args"]["batch_size"] = batch_size
    content["evaluation"]["methods"].append("mean+centred")  # whose map is that of the mean
    content["arms"]["mcal"] = {"title": "MCal", "network_of": "no_masks", "calibration": True}
    path.write_text(yaml.safe_dump(content))
    config = parse_config([f"--config={path}", f"--out={folder / 'out'}"])
    config.data.setup("fit")
    torch.manual_seed(0)
    classifier = MaskRobustClassifier(num_classes=4, **config.models["mcal"]).eval()
    monkeypatch.setattr(arms, "frozen_network", lambda *_: classifier)
    run = config.run_of("mcal", 1)
    config.learning_arm("mcal").learn(config, run, folder, Progress(Console(file=StringIO()), runs=1))
    images = config.data.samples("train").images[:20] / 255  # type: ignore[attr-defined]
    return classifier, images, read_state_dict(folder / run.learned.name)


def test_masked_images_are_to_be_predicted_as_the_network_predicts_them_with_nothing_hidden(
    fits, tmp_path, monkeypatch
):
    classifier, images, maps = calibrated(tmp_path, 16, monkeypatch)
    with torch.no_grad():
        clean = classifier(images)
    first = {name: float(each.flatten()[0]) for name, each in maps.items()}
    assert first == {
        **{"black.weight": 1.0, "mean.weight": 2.0, "layer_masking.weight": 3.0},
        **{"black.bias": 0.0, "mean.bias": 0.0, "layer_masking.bias": 0.0},
    }
    for logits, targets in fits:
        assert torch.equal(targets, clean.argmax(dim=1))
        assert logits.shape == (20, 4)
        assert not (logits - clean).abs().amax(dim=1).lt(1e-6).any()


def test_holes_do_not_depend_on_the_batches(fits, tmp_path, monkeypatch):
    for batch_size in (16, 5):
        (tmp_path / str(batch_size)).mkdir()
        calibrated(tmp_path / str(batch_size), batch_size, monkeypatch)
    for (first, _), (second, _) in zip(fits[:3], fits[3:], strict=True):
        assert torch.allclose(first, second, atol=1e-5)
