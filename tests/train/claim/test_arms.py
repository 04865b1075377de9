"""The networks of arms: seeds, the probe beside them, and known manipulation checks."""

from io import StringIO

import pytest
import pytorch_lightning as pl
import torch
from rich.console import Console
from torch import Tensor, nn

from maskrobust.augment import Batch
from maskrobust.augment.batch import first_images
from maskrobust.errors import InputError
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.train.claim import runs
from maskrobust.train.claim.arguments import parse_config
from maskrobust.train.claim.arms import train
from maskrobust.train.claim.runs import manipulation_check, measured_probe
from maskrobust.train.running.progress import ClaimProgress
from tests.train.tiny import content_of, tiny_claim, write_claim

SILENT = Console(file=StringIO())


def config_of(path, out, *options):
    return parse_config([f"--config={path}", f"--out={out}", *options])


def test_the_seed_of_a_run_decides_weights_and_order_alike_for_all_arms(tmp_path, monkeypatch):
    config = config_of(write_claim(tmp_path / "claim.yaml", seeds=[1, 2]), tmp_path / "out")
    begun: list[tuple[int, Tensor]] = []

    def fit(_trainer, classifier, datamodule, **_):
        begun.append((datamodule.order_seed, torch.cat([each.flatten() for each in classifier.network.parameters()])))

    monkeypatch.setattr(pl.Trainer, "fit", fit)
    for arm in ("no_masks", "layer_masking"):
        for seed in (1, 2):
            train(config, config.run_of(arm, seed), tmp_path, ClaimProgress(SILENT, runs=1))
    assert [order for order, _ in begun] == [1, 2, 1, 2]
    first, second, *same = (weights for _, weights in begun)
    assert torch.equal(first, same[0]) and torch.equal(second, same[1]) and not torch.equal(first, second)


def test_the_probe_learns_from_the_first_draw_whatever_was_trained_on_before(tmp_path, monkeypatch):
    path = write_claim(tmp_path / "claim.yaml", training={"epochs": 1, "images_by_seed": True})
    config, learned = config_of(path, tmp_path / "out"), []

    def train_probe(data, _seed):
        learned.append(data.samples("train").ids.tolist())
        raise InputError("enough")

    monkeypatch.setattr(runs, "train_outline_probe", train_probe)
    first = config.data.samples("train").ids.tolist()
    config.data.draw_training(3)
    with pytest.raises(InputError, match="enough"):
        measured_probe(config, ClaimProgress(SILENT, runs=1))
    assert learned == [first]


def fixed(logits):
    """A classifier that says the same of every image."""
    head = nn.Linear(3, len(logits))
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor(logits))
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    return MaskRobustClassifier(network, num_classes=len(logits))


def test_a_network_that_says_the_same_of_everything_has_the_numbers_that_follow_from_it(tmp_path):
    arms = content_of("claim_cues.yaml")["arms"]
    for objective, family in (("consistency", "patches"), ("abstention", "covers")):
        model = {"masking": "fill", "mask_family": family, "fill": "mean", "objective": objective}
        arms[objective] = {"title": objective, "method": "mean", "model": model}
    path = tiny_claim("claim_cues.yaml", tmp_path / "claim.yaml", arms=arms)
    config = parse_config([f"--config={path}", f"--out={tmp_path}"])
    config.data.setup("fit")
    few = Batch.cat([*first_images(config.data.val_dataloader(), 20)]).to("cpu")
    for logits, entropy in (([0.0] * 4, 1.0), ([0.0, 0.0, -90.0, -90.0], 0.5), ([90.0, 0.0, 0.0, 0.0], 0.0)):
        found = manipulation_check(config, fixed(logits), few)
        assert found.pop("abstention") == pytest.approx(entropy, abs=1e-6)
        assert found.pop("consistency") == 1.0
        assert set(found) == set(config.manipulation_checks) - {"abstention", "consistency"}
        assert list(found.values()) == pytest.approx([(few.labels == 0).float().mean().item()] * len(found))
