"""The kinds of arm: what is refused, how a training goes on, runs made twice, and a kind of one's own."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import yaml
from rich.console import Console
from torch import Tensor

from maskrobust.augment import SilhouetteBank
from maskrobust.lm_modules.centring import centred
from maskrobust.lm_modules.methods import MaskingMethod, Predictor, uncentred
from maskrobust.lm_modules.reliance.measurement import Measurement
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.train.claim import arms, run_claim
from maskrobust.train.claim.arguments import parse_config
from maskrobust.train.claim.arms import KINDS, frozen_network
from maskrobust.train.claim.config import Arm, ClaimConfig, LearningArm
from maskrobust.train.claim.progress import Progress
from maskrobust.train.claim.stored import StoredRun
from maskrobust.train.data.batches import batches_on
from tests.train.claim.test_claim import write_claim

DROPOUT = {"architecture": "mobilenet_v3_small", "architecture_options": {"dropout": 0.5}, "patch_size": 8}
SILENT = Console(file=StringIO())


def config_of(path: Path, out: Path, *options: str) -> ClaimConfig:
    return parse_config([f"--config={path}", f"--out={out}", *options])


def outcomes_of(config: ClaimConfig) -> dict[tuple[str, str], Outcomes]:
    """Of the seed 1 of every arm that the process makes, by arm and method; made unless they are there."""
    runs, _ = run_claim(config, SILENT)
    return {(arm, method): found for arm, seeds in runs.items() for method, found in seeds[1].outcomes.items()}


def assert_same(left: Mapping[Any, Outcomes], right: Mapping[Any, Outcomes]) -> None:
    assert left.keys() == right.keys()
    for key in left:
        for one, other in zip(vars(left[key]).values(), vars(right[key]).values(), strict=True):
            np.testing.assert_equal(one, other)


def epochs_logged(folder: Path) -> set[str]:
    with (folder / "log" / "metrics.csv").open() as file:
        return {row["epoch"] for row in csv.DictReader(file)}


def test_a_training_that_was_interrupted_goes_on_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_claim(tmp_path / "claim.yaml", training={"epochs": 3, "accelerator": "cpu"}, model=DROPOUT)
    undisturbed = config_of(path, tmp_path / "undisturbed", "--arm=patches_mean")
    config = config_of(path, tmp_path / "out", "--arm=patches_mean")
    expected = outcomes_of(undisturbed)
    save_checkpoint = pl.Trainer.save_checkpoint

    def stop_in_the_second(trainer: pl.Trainer, path: Path) -> None:
        if trainer.current_epoch == 1:
            raise SystemExit(143)
        save_checkpoint(trainer, path)

    with monkeypatch.context() as patch:
        patch.setattr(pl.Trainer, "save_checkpoint", stop_in_the_second)
        with pytest.raises(SystemExit):
            run_claim(config, SILENT)
    run = config.run_of("patches_mean", 1)
    assert not run.folder.exists() and run.newest_state() is not None
    assert_same(outcomes_of(config), expected)
    assert run.learned.read_bytes() == undisturbed.run_of("patches_mean", 1).learned.read_bytes()
    assert epochs_logged(run.folder) == {"1", "2"}
    assert list(run.folder.parent.iterdir()) == [run.folder]


@dataclass(frozen=True)
class CentredNetwork(LearningArm):
    """The network of another arm; its logits minus their mean over two backgrounds behind the hole: 0 and 1."""

    centring: bool = True
    learned: ClassVar[str] = "backgrounds.pt"

    def check(self, name: str, arms: Mapping[str, Arm], model: Mapping[str, Any]) -> None:
        """Nothing is refused."""

    def follows_from(self, config: ClaimConfig, name: str, seed: int) -> dict[str, Any]:
        return {"network": config.source_of(name, seed).trained.settings}

    def learn(self, config: ClaimConfig, run: StoredRun, folder: Path, progress: Progress) -> dict[str, Any]:
        torch.save(torch.tensor([0.0, 1.0]), folder / self.learned)
        return {"backgrounds": 2}

    def predictors(self, run: StoredRun, classifier: MaskRobustClassifier) -> dict[MaskingMethod, Predictor]:
        backgrounds = torch.load(run.learned)

        def predict(images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
            means = [classifier(torch.where(visible, images, colour)) for colour in backgrounds]
            return classifier(images) - torch.stack(means).mean(dim=0)

        return dict.fromkeys(map(uncentred, run.methods), predict)


def test_a_new_kind_of_arm_is_a_class_and_its_name_in_the_table_of_kinds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arms, "KINDS", {"centring": CentredNetwork, **KINDS})
    path = write_claim(tmp_path / "claim.yaml")
    content = yaml.safe_load(path.read_text())
    content["arms"]["centred"] = {"title": "Centred", "network_of": "no_masks", "centring": True, "method": "mean"}
    path.write_text(yaml.safe_dump(content))
    config = config_of(path, tmp_path / "out", "--arm=[no_masks, centred]")
    found = outcomes_of(config)
    assert config.run_of("centred", 1).learned == tmp_path / "out" / "arms" / "centred" / "seed-1" / "backgrounds.pt"
    assert vars(found["centred", "mean"]).keys() == vars(found["no_masks", "mean"]).keys()
    used, trained = (frozen_network(config, arm, 1).state_dict() for arm in ("centred", "no_masks"))
    assert all(torch.equal(used[name], trained[name]) for name in trained)


def test_answers_are_centred_by_training_scenes_after_they_are_calibrated(tmp_path: Path) -> None:
    path = write_claim(tmp_path / "claim.yaml")
    content = yaml.safe_load(path.read_text())
    content["evaluation"]["methods"] = ["mean", "mean+centred", "layer_masking"]
    path.write_text(yaml.safe_dump(content))
    config = config_of(path, tmp_path / "out", "--arm=[no_masks, mcal]")
    found, bank = outcomes_of(config), SilhouetteBank.from_batches(config.data.annotated_batches("val"))
    scenes = config.data.empty_scenes("train", 8).images
    for arm in ("no_masks", "mcal"):
        network, run = frozen_network(config, arm, 1).trained_network(), config.run_of(arm, 1)
        plain = config.learning_arm(arm).predictors(run, network).get("mean", network.predictor("mean"))
        asked = Measurement(
            {arm: network},
            bank,
            {"mean": config.plans_of(arm)["mean"]},
            num_classes=config.data.num_classes,
            seed=config.evaluation.seed,
            predictors={arm: {"mean": centred(plain, scenes)}},
        )
        device = next(network.parameters()).device
        expected = asked.run(batches_on(config.data.whole_split("test"), device))[arm]["mean"]
        assert_same({"": found[arm, "mean+centred"]}, {"": expected})
