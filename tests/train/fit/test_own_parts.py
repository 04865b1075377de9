"""`maskrobust fit` with a network or an objective of the user's own."""

import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from maskrobust.errors import InputError
from maskrobust.lm_modules.loading import load_network
from maskrobust.lm_modules.networks.weights import read_checkpoint
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.lm_modules.training.objectives import OBJECTIVES
from maskrobust.train.cli import main
from maskrobust.train.data import Cues
from tests.train.runs import last, next_commands, rows
from tests.train.test_cli import sentence_of
from tests.train.tiny import FEW_MEASURES, TINY_DATA, TWO_STEPS, tiny_fit

MODULE = "own_networks_of_test_own_network"
OWN = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes=5, width=4):
        super().__init__(
            nn.Conv2d(3, width, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(width, num_classes),
        )

class OfClasses(Net):
    def __init__(self, num_classes):
        super().__init__(num_classes)

def of_twelve():
    return Net(12)

def pair():
    return Pair(3, 8, 1)

class Pair(nn.Conv2d):
    def forward(self, images):
        return super().forward(images), images
"""
DATA = ["--data=Cues", *(f"--data.{name}={value}" for name, value in TINY_DATA.items())]


@pytest.fixture(autouse=True)
def _own_module(tmp_path, monkeypatch):
    (tmp_path / f"{MODULE}.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)


def weights_of(checkpoint):
    weights: dict[str, torch.Tensor] = read_checkpoint(checkpoint)["state_dict"]
    return weights


def fit(*more):
    main(["fit", *DATA, *TWO_STEPS, *more])
    return last(Path("runs"))


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_class_of_ones_own_is_trained_resumed_and_loaded_by_its_name(capsys):
    Path("own.yaml").write_text(
        yaml.safe_dump({"model": {"architecture": f"{MODULE}.Net", "schedule": "constant", "warmup_fraction": 0}})
    )
    checkpoint = fit("--config=own.yaml", "--trainer.max_epochs=2")
    fit("--config=own.yaml", "--trainer.max_epochs=1", "--run_name=half")
    half = str(last(Path("runs/half")))
    resumed = [*DATA, *TWO_STEPS, "--trainer.max_epochs=2", "--run_name=half", f"--ckpt_path={half}"]
    assert f"was trained with model.architecture {MODULE}.Net, got small_resnet" in sentence_of(
        ["fit", *resumed], capsys
    )
    main(["fit", *resumed, "--config=own.yaml"])
    torch.testing.assert_close(weights_of(last(Path("runs/half"))), weights_of(checkpoint), rtol=0, atol=0)
    with pytest.raises(InputError, match="is not imported because a file names it"):
        load_network(str(checkpoint))
    found = load_network(f"{MODULE}.Net:{checkpoint}")
    assert found.num_classes == 8 and found.class_names == Cues().class_names


@pytest.mark.parametrize(("name", "given", "steps"), [("of_twelve", "shape (1, 12)", 0), ("pair", "tuple", 2)])
def test_outputs_that_are_not_one_for_each_class_are_told_before_a_step(name, given, steps, capsys, monkeypatch):
    monkeypatch.setattr(MaskRobustClassifier, "on_before_optimizer_step", lambda *_arguments: pytest.fail("it trains"))
    arguments = ["fit", *DATA, *TWO_STEPS, f"--model.architecture={MODULE}.{name}", "--trainer.logger=false"]
    if name == "pair":
        arguments.append("--model.channels_last=false")
    assert sentence_of([*arguments, f"--trainer.num_sanity_val_steps={steps}"], capsys) == (
        f"the network must return logits (B, 8), one for each class, got {given}; give it as many outputs."
    )


def test_the_commands_that_fit_ends_with_name_the_class_of_ones_own_as_the_refusal_of_its_checkpoint_does(capsys):
    checkpoint = fit(f"--model.architecture={MODULE}.OfClasses")
    predict, evaluate = next_commands(capsys.readouterr().out)
    refusal = sentence_of(["evaluate", *DATA, f"--network={checkpoint}", "--out=out"], capsys)
    assert refusal.rstrip(".").split()[-1] == f"{MODULE}.OfClasses:{checkpoint}"
    Path("IMAGES").mkdir()
    Image.new("RGB", (60, 60)).save("IMAGES/a.png")
    main(predict)
    main([*evaluate, *FEW_MEASURES])


OWN_OBJECTIVE = """
import torch.nn.functional as F
from maskrobust import objective

@objective("constant", needs_holes=False)
def constant(learner, shown, teacher, scale=2.0):
    return scale * (1 + F.relu(learner(shown.images, shown.visible) * 0).sum() + 0 * teacher(shown.images).sum())
"""


@pytest.fixture(autouse=True)
def _own_file(tmp_path, monkeypatch):
    (tmp_path / "my_objectives.py").write_text(OWN_OBJECTIVE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    forget()


def forget():
    OBJECTIVES.pop("constant", None)
    sys.modules.pop("my_objectives", None)


def test_a_network_is_trained_with_it_and_measured_without(tmp_path, capsys):
    weights, run = tmp_path / "start.pt", tmp_path / "run"
    torch.save(load_network("small_resnet:random", num_classes=8).network.state_dict(), weights)
    given = ["--model.architecture_options={}", "--model.objective=my_objectives.constant"]
    main(["fit", *tiny_fit("cues.yaml", run), *given, f"--model.weights={weights}", "--trainer.log_every_n_steps=1"])
    assert {row["train/loss"] for row in rows(run) if row.get("train/loss")} == {"2.0"}
    checkpoint = last(run)
    assert (
        yaml.safe_load(next(run.rglob("config.yaml")).read_text())["model"]["objective"] == given[1].partition("=")[2]
    )

    forget()
    assert load_network(str(checkpoint)).num_classes == 8
    assert "my_objectives" not in sys.modules
