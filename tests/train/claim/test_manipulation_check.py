"""Manipulation checks: numbers that are known beforehand."""

from pathlib import Path

import pytest
import torch
from torch import nn

from maskrobust.augment import Batch
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.train.claim.arguments import parse_config
from maskrobust.train.claim.arms import first_images
from maskrobust.train.claim.runs import check_in_words, manipulation_check
from tests.train.tiny import tiny_claim


def fixed(logits: list[float]) -> MaskRobustClassifier:
    """A classifier that says the same of every image."""
    head = nn.Linear(3, len(logits))
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor(logits))
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    return MaskRobustClassifier(network, num_classes=len(logits))


def test_a_network_that_says_the_same_of_everything_has_the_numbers_that_follow_from_it(tmp_path: Path) -> None:
    path = tiny_claim("factorial_cues.yaml", tmp_path / "claim.yaml")
    config = parse_config([f"--config={path}", f"--out={tmp_path}"])
    config.data.setup("fit")
    few = Batch.cat([*first_images(config.data.val_dataloader(), 20)]).to("cpu")
    for logits, entropy in (([0.0] * 4, 1.0), ([0.0, 0.0, -90.0, -90.0], 0.5), ([90.0, 0.0, 0.0, 0.0], 0.0)):
        found = manipulation_check(config, fixed(logits), few)
        assert found.pop("abstention") == pytest.approx(entropy, abs=1e-6)
        assert found.pop("consistency") == 1.0
        assert set(found) == set(config.manipulation_checks) - {"abstention", "consistency"}
        assert list(found.values()) == pytest.approx([(few.labels == 0).float().mean().item()] * len(found))


def test_the_worst_of_several_masks_is_no_easier_than_one(tmp_path: Path) -> None:
    path = tiny_claim("factorial_cues.yaml", tmp_path / "claim.yaml")
    config = parse_config([f"--config={path}", f"--out={tmp_path}"])
    config.data.setup("fit")
    few = Batch.cat([*first_images(config.data.val_dataloader(), 24)]).to("cpu")
    torch.manual_seed(0)
    classifier = MaskRobustClassifier(num_classes=4, architecture_options={"width": 16}).eval()
    found = manipulation_check(config, classifier, few)
    worst, one = found["worst_case"], found["patches_random_colour"]
    assert worst is not None and one is not None and worst <= one
    assert "worst of 4" in check_in_words(config.manipulation_checks["worst_case"])
