"""An objective in a file of the user's own, by its name: trained with, and never imported because a file names it."""

import sys

import pytest
import torch
import yaml

from maskrobust import load_network
from maskrobust.lm_modules.training.objectives import OBJECTIVES
from maskrobust.train.cli import main
from tests.train.runs import last, rows
from tests.train.test_cli import sentence_of
from tests.train.tiny import tiny_fit

OWN = """
import torch.nn.functional as F
from maskrobust import objective

@objective("constant", needs_holes=False)
def constant(learner, shown, teacher, scale=2.0):
    return scale * (1 + F.relu(learner(shown.images, shown.visible) * 0).sum() + 0 * teacher(shown.images).sum())
"""


@pytest.fixture(autouse=True)
def _own_file(tmp_path, monkeypatch):
    (tmp_path / "my_objectives.py").write_text(OWN)
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
    sentence = sentence_of(["validate", *tiny_fit("cues.yaml", run), f"--ckpt_path={checkpoint}"], capsys)
    assert "names 'my_objectives.constant', which is not imported because a file names it" in sentence
    assert "my_objectives" not in sys.modules


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "my_objectives.away",
            "module 'my_objectives' registers no 'away'; decorate its function with @objective('away')",
        ),
        (
            "cross",
            "objective must be one of abstention, consistency, cross_entropy, distillation, or named after its own",
        ),
    ],
)
def test_a_mistake_in_its_name_is_one_sentence(name, told, tmp_path, capsys):
    assert told in sentence_of(["fit", *tiny_fit("cues.yaml", tmp_path), f"--model.objective={name}"], capsys)
