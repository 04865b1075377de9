"""Apple's GPUs, which lack float64: Lightning would take one by default, the commands never do."""

import platform
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from lightning_fabric.accelerators import MPSAccelerator
from rich.console import Console

from maskrobust.errors import InputError
from maskrobust.lm_modules.networks.architectures import build_network
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.train.claim.arguments import parse_config
from maskrobust.train.claim.progress import Progress
from maskrobust.train.cli import main
from maskrobust.train.fit import quiet_lightning
from maskrobust.train.running.processes import find_device
from tests.train.claim.test_claim import write_claim
from tests.train.test_cli import sentence_of
from tests.train.tiny import tiny_fit


@pytest.fixture
def apple(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What torch and Lightning see on a Mac; a tensor that goes to its GPU is an error here, as there is none."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    monkeypatch.setattr(torch.mps, "manual_seed", lambda _: None)
    MPSAccelerator.is_available.cache_clear()
    assert pl.Trainer(logger=False, enable_checkpointing=False).strategy.root_device.type == "mps"
    yield
    MPSAccelerator.is_available.cache_clear()


def arguments_of(folder: Path, accelerator: str) -> list[str]:
    torch.save(build_network("small_resnet", 8, {"width": 16}).state_dict(), folder / "weights.pt")
    weights = f"--model.weights={folder / 'weights.pt'}"
    return ["validate", *tiny_fit("cues.yaml", folder), f"--trainer.accelerator={accelerator}", weights]


def test_auto_is_the_cpu_and_said(apple: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(arguments_of(tmp_path, "auto"))
    assert "computing on the CPU: Apple's GPUs lack float64, in which holes are drawn.\n" in capsys.readouterr().out


def test_a_trainer_that_is_told_to_take_the_gpu_is_refused_in_one_sentence(
    apple: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sentence_of(arguments_of(tmp_path, "gpu"), capsys).endswith("give it accelerator cpu.")


def test_a_trainer_of_ones_own_is_refused(apple: None) -> None:
    trainer = pl.Trainer(logger=False, enable_checkpointing=False)
    with pytest.raises(InputError, match=r"must have float64, .* got mps; give it accelerator cpu"):
        trainer.validate(MaskRobustClassifier(), [])


def test_a_claim_trains_on_the_cpu(apple: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_claim(tmp_path / "claim.yaml", training={"epochs": 1, "accelerator": "auto"})
    config = parse_config([f"--config={path}", f"--out={tmp_path / 'out'}", "--arm=no_masks"])
    devices = []
    monkeypatch.setattr(pl.Trainer, "fit", lambda self, *_, **__: devices.append(self.strategy.root_device.type))
    quiet_lightning()
    with Progress(Console(quiet=True), 1) as progress:
        config.learning_arm("no_masks").learn(config, config.run_of("no_masks", 1), tmp_path, progress)
    assert devices == ["cpu"]


def test_no_command_computes_on_it(apple: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_device(None).type == "cpu" or torch.cuda.is_available()
    monkeypatch.setattr(torch, "empty", lambda *_, **__: None)  # which the GPU would give
    with pytest.raises(InputError, match=r"must have float64, .* got 'mps'; leave it out, or choose cpu"):
        find_device("mps")
