import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision

from lm_modules import SmallResNet
from tests.train.tiny import tiny_claim, tiny_fit
from train.cli import main


def sentence_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must fail, and return what it told the user."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("maskrobust: error: ")
    return last.removeprefix("maskrobust: error: ")


@pytest.mark.parametrize("command", ["fit", "validate", "test", "claim"])
def test_help_lists_the_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    assert command in capsys.readouterr().out


@pytest.mark.parametrize("command", ["evaluate", "claim", "masks", "shards", "arches"])
def test_every_option_is_explained_by_its_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    _, *described = re.split(r"\n  (?=-|NAME)", capsys.readouterr().out.partition("\n\n")[2])
    texts = {" ".join(re.split(r" {2,}|\n", each)[:1]): re.split(r" {2,}|\n\s*", each)[1] for each in described}
    assert {
        name: text for name, text in texts.items() if not text or text.startswith(("(type", "(required", "(default"))
    } == {}
    if command == "shards":
        assert "--verify" in texts


def test_an_unknown_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert "got 'fti'" in sentence_of(["fti"], capsys)


def test_the_installed_command_runs() -> None:
    command = [sys.executable, "-m", "train.cli", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.startswith("maskrobust 0.")


FIT_FAULTS = [
    ("--model.architecture=resnet51", "did you mean"),
    ("--data=Fashon", "data must be one of Cues, Fashion, Folder"),
    ("--data=nowhere.Data", "data must be one of Cues, Fashion, Folder"),
    ("--model.maskng=fill", "maskng"),
    ("--model.masking=filled", "masking"),
    ("--model.hidden_fraction=[0.9, 0.1]", "hidden_fraction"),
    ("--data.init_args.train_images=0", "train_images"),
    ("--data.init_args.imagesize=3", "imagesize"),
    ("--model.init_weights=nowhere.pt", "nowhere.pt"),
    ("--config=nowhere", "nowhere"),
]


@pytest.mark.parametrize(("argument", "named"), FIT_FAULTS)
def test_bad_input_of_fit_is_one_sentence_and_writes_nothing(
    argument: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = sentence_of(["fit", *tiny_fit("cues.yaml", tmp_path), argument], capsys)
    assert named in sentence
    assert "Traceback" not in sentence
    assert list(tmp_path.iterdir()) == []


def _other_classes(path: Path) -> None:
    torch.save(SmallResNet(5, width=16).state_dict(), path)


def _other_architecture(path: Path) -> None:
    torch.save(torchvision.models.resnet18(num_classes=8).state_dict(), path)


def _not_a_checkpoint(path: Path) -> None:
    path.write_bytes(b"not a checkpoint")


@pytest.mark.parametrize(
    ("write", "named"),
    [
        (_other_classes, "has 5 classes but the model has 8"),
        (_other_architecture, "does not fit"),
        (_not_a_checkpoint, "damaged"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    write: Callable[[Path], None], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "weights.pt")
    runs = tmp_path / "runs"
    sentence = sentence_of(
        ["fit", *tiny_fit("cues.yaml", runs), f"--model.init_weights={tmp_path / 'weights.pt'}"], capsys
    )
    assert named in sentence
    assert not runs.exists()


def test_a_missing_checkpoint_to_resume_from_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentence = sentence_of(["test", *tiny_fit("cues.yaml", tmp_path), "--ckpt_path=nowhere.ckpt"], capsys)
    assert "nowhere.ckpt" in sentence


def test_an_empty_data_root_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty, runs = tmp_path / "empty", tmp_path / "runs"
    empty.mkdir()
    arguments = ["fit", *tiny_fit("cues.yaml", runs), "--data=Fashion", f"--data.init_args.root={empty}"]
    assert str(empty) in sentence_of(arguments, capsys)
    assert not runs.exists()


CLAIM_FAULTS = [
    ({"seeds": []}, "seeds"),
    ({"seeds": [1, 1]}, "seeds"),
    ({"sedes": [1]}, "sedes"),
    ({"arms": {"plain": {"title": "Plain"}}}, "rule.baseline"),
    ({"arms": {"no_masks": {"titel": "x"}, "layer_masking": {"title": "y"}}}, "titel"),
    ({"arms": {"no_masks": {"title": "x", "model": {"maskng": "none"}}, "layer_masking": {"title": "y"}}}, "maskng"),
    ({"training": {"epochs": 0}}, "epochs"),
    ({"evaluation": {"methods": ["black", "mean"]}}, "layer_masking"),
    ({"evaluation": {"methods": ["grey"]}}, "grey"),
]


@pytest.mark.parametrize(("changes", "named"), CLAIM_FAULTS)
def test_bad_input_of_claim_is_one_sentence_and_writes_nothing(
    changes: dict[str, object], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_claim("claim_cues.yaml", tmp_path / "claim.yaml", **changes)
    sentence = sentence_of(["claim", f"--config={config}", f"--out={tmp_path / 'out'}"], capsys)
    assert named in sentence
    assert not (tmp_path / "out").exists()
