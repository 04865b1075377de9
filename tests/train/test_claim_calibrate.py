"""What a calibration is fitted on: the first training images, each with its own hole, and the network's own word."""

from io import StringIO
from pathlib import Path

import pytest
import torch
import yaml
from rich.console import Console
from torch import Tensor

from maskrobust.augment import Batch
from maskrobust.lm_modules.calibration import AffineCalibration
from maskrobust.lm_modules.classifier import MaskRobustClassifier
from maskrobust.train.claim import calibrate
from maskrobust.train.claim.arguments import parse_config
from maskrobust.train.claim.calibrate import calibrations, first_images
from maskrobust.train.claim.progress import Progress
from maskrobust.train.claim.runs import stored_run
from tests.train.tiny import tiny_claim

Fit = tuple[Tensor, Tensor]


def batch(ids: range) -> Batch:
    size = len(ids)
    return Batch(torch.tensor(ids), torch.zeros(size, 3, 4, 4), torch.zeros(size, 1, 4, 4) > 0, torch.zeros(size) > 0)


@pytest.mark.parametrize(("count", "sizes"), [(7, [3, 3, 1]), (6, [3, 3]), (100, [3, 3, 2]), (2, [2])])
def test_images_are_taken_up_to_a_count(count: int, sizes: list[int]) -> None:
    taken = list(first_images([batch(range(3)), batch(range(3, 6)), batch(range(6, 8))], count))
    assert [len(each.ids) for each in taken] == sizes
    assert torch.cat([each.ids for each in taken]).tolist() == list(range(min(count, 8)))


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[Fit]:
    """What is fitted, in place of a fit; 20 images are enough."""
    asked: list[Fit] = []

    def fit(masked_logits: Tensor, targets: Tensor) -> AffineCalibration:
        asked.append((masked_logits, targets))
        return AffineCalibration(torch.full((4, 4), float(len(asked))), torch.zeros(4))

    monkeypatch.setattr(calibrate, "fit_calibration", fit)
    monkeypatch.setattr(calibrate, "CALIBRATION_IMAGES", 20)
    return asked


def calibrated(folder: Path, batch_size: int) -> tuple[MaskRobustClassifier, Tensor, dict[str, AffineCalibration]]:
    """An untrained network, the first 20 training images, and the maps by method, fitted and read again."""
    path = tiny_claim("claim_cues.yaml", folder / "claim.yaml")
    content = yaml.safe_load(path.read_text())
    content["data"]["init_args"]["batch_size"] = batch_size
    content["arms"]["mcal"] = {"title": "MCal", "network_of": "no_masks", "calibration": True}
    path.write_text(yaml.safe_dump(content))
    config = parse_config([f"--config={path}", f"--out={folder / 'out'}"])
    config.data.setup("fit")
    torch.manual_seed(0)
    classifier = MaskRobustClassifier(num_classes=4, **config.models["mcal"]).eval()
    console = Console(file=StringIO())
    maps = calibrations(config, stored_run(config, "mcal", 1), classifier, Progress(console, runs=1))
    again = calibrations(config, stored_run(config, "mcal", 1), classifier, Progress(console, runs=1))
    assert all(torch.equal(maps[method].weight, again[method].weight) for method in maps)
    return classifier, config.data.samples("train").images[:20] / 255, dict(maps)  # type: ignore[attr-defined]


def test_masked_images_are_to_be_predicted_as_the_network_predicts_them_with_nothing_hidden(
    fits: list[Fit], tmp_path: Path
) -> None:
    classifier, images, maps = calibrated(tmp_path, batch_size=16)
    with torch.no_grad():
        clean = classifier(images)
    assert list(maps) == ["black", "mean", "layer_masking"]
    assert [float(each.weight[0, 0]) for each in maps.values()] == [1.0, 2.0, 3.0]
    for logits, targets in fits:
        assert torch.equal(targets, clean.argmax(dim=1))
        assert logits.shape == (20, 4)
        assert not (logits - clean).abs().amax(dim=1).lt(1e-6).any()


def test_holes_do_not_depend_on_the_batches(fits: list[Fit], tmp_path: Path) -> None:
    for batch_size in (16, 5):
        (tmp_path / str(batch_size)).mkdir()
        calibrated(tmp_path / str(batch_size), batch_size)
    for (first, _), (second, _) in zip(fits[:3], fits[3:], strict=True):
        assert torch.allclose(first, second, atol=1e-5)
