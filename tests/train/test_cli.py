import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
import yaml

from maskrobust.lm_modules.architectures import SmallResNet
from maskrobust.train.cli import main
from tests.train.tiny import tiny_claim, tiny_fit


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
    command = [sys.executable, "-m", "maskrobust.train.cli", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.startswith("maskrobust 0.")


FIT_FAULTS = [
    ("--model.architecture=resnet51", "did you mean"),
    ("--data=Fashon", "data must be one of Cues, Fashion, Folder"),
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


HELP = "maskrobust COMMAND --help"
CALLBACK = "pytorch_lightning.callbacks.ModelCheckpoint"
SENTENCES = [
    ("fit", "--data must be given, but is not; see " + HELP + "."),
    ("masks", "--out and --data must be given, but are not; see " + HELP + "."),
    ("fit --data=Cues --ckpt_path", "--ckpt_path needs a value, but has none; give one."),
    ("fit --data=Cues --trainer.max_epoch=2", "unrecognized arguments: --trainer.max_epoch=2; " + HELP + " lists"),
    ("masks --data=Cues --out=o --ima=2", "unrecognized arguments: --ima=2; " + HELP + " lists the options."),
    ("arches --nam", "unrecognized arguments: --nam; " + HELP + " lists the options."),
    (
        "fit --data=Folder --data.rot=X",
        "data is a maskrobust.train.data.Folder, which has no option 'rot'; "
        "maskrobust COMMAND --data.help maskrobust.train.data.Folder",
    ),
    ("fit --data=Cues --data.init_args.seed=x", "data.seed must be a whole number, got 'x'; change it, or see " + HELP),
    (
        "fit --data=Cues --trainer.max_epochs two",
        "trainer.max_epochs must be a whole number or null, got 'two'; change",
    ),
    (
        "fit --data=Cues --model.masking foo",
        "model.masking must be one of none, fill, layer_masking, mixture, got 'foo'",
    ),
    (
        "fit --data=Cues --trainer.max_epochs=1 --model.fill=blak",
        "inpainting, other_image, or named after its own module as in my_module.my_name, got 'blak'",
    ),
    (
        "fit --data=Cues --model.hidden_fraction=[0.5]",
        "hidden_fraction must be a list of 2 elements, got [0.5]; change",
    ),
    ("fit --data=Cues --model.architecture_options=x", "must be a mapping such as {a: 1} or null, got 'x'; change it"),
    ("fit --data=Cues --wandb=maybe", "wandb must be true, false or a WandbOptions, got 'maybe'; change it, or see"),
    ("fit --data=Cues --wandb.tags=x", "wandb.tags must be a list such as [a, b], got 'x'; change it, or see " + HELP),
    (
        "fit --data=Cues --wandb.projct=x",
        "wandb is a maskrobust.train.loggers.WandbOptions, which has no option 'projct'; "
        "maskrobust COMMAND --wandb.help lists",
    ),
    (
        "fit --data=Cues --model.architecture.class_path my_networks.X",
        "model.architecture names the class 'my_networks.X', which cannot be imported (No module named 'my_networks'); "
        "correct it, or set PYTHONPATH to the folder that its module is in.",
    ),
    (
        "fit --data=nowhere.Data",
        "data names the class 'nowhere.Data', which cannot be imported (No module named 'nowhere'); correct it, or set",
    ),
    (
        "fit --data=torch.nn.Linear",
        "data must be the import path of a class that is an AnnotatedDataModule, got 'torch",
    ),
    (
        "evaluate --data=Cues --out=o --checkpoint=x --methods=[grey]",
        "inpainting, layer_masking, or named after its own module as in my_module.my_name, got 'grey'; choose one",
    ),
    (
        "fit --data=Cues --model.hidden_fraction=[1,2,3]",
        "model.hidden_fraction must be a list of 2 elements, got [1, 2, 3]; change it, or see " + HELP + ".",
    ),
    (
        "fit --data.root=x",
        "data must be one of Cues, Fashion, Folder, Pets, Shards, or the import path of a data module, got {root: x};",
    ),
    ("fit --data=Cues --model=small", "model must hold options, or name a YAML that does, got 'small'; change it."),
    ("fit --data=Cues --model.seed=null", "model.seed must be a whole number, got null; change it"),
    ("claim --arms={a:3}", "arms must be a mapping such as {a: 1}, got"),
    ("claim --seed=one", "seed must be a whole number, a list such as [a, b] or null, got 'one'; change it, or see"),
]


@pytest.mark.parametrize(("given", "told"), SENTENCES, ids=[given for given, _ in SENTENCES])
def test_what_is_wrong_with_an_option_is_told_in_words(
    given: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = sentence_of(given.split(), capsys)
    assert told in sentence
    assert not re.search(r"<class|Union|typing|NestedArg|Parser key", sentence)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"trainer": {"max_epochs": "two"}}, "trainer.max_epochs must be a whole number or null, got 'two'; change it"),
        ({"model": {"masking": ["a"]}}, "model.masking must be one of none, fill, layer_masking, mixture, got ['a'];"),
        (
            {"data": {"class_path": "Folder", "init_args": {"rot": "X"}}},
            "data is a maskrobust.train.data.Folder, which has no",
        ),
        (
            {"trainer": {"callbacks": [{"class_path": "ModelChekpoint"}]}},
            "trainer.callbacks must name classes that are known, or by import path, got 'ModelChekpoint'; correct it.",
        ),
        (
            {"trainer": {"callbacks": [{"class_path": "ModelCheckpoint", "init_args": {"monito": "x"}}]}},
            f"trainer.callbacks is a {CALLBACK}, which has no option 'monito'; maskrobust COMMAND "
            f"--trainer.callbacks.help {CALLBACK} lists them.",
        ),
        (
            {"trainer": {"callbacks": [{"class_path": "ModelCheckpoint", "init_args": {"save_top_k": "x"}}]}},
            "trainer.callbacks.save_top_k must be a whole number, got 'x'; change it",
        ),
    ],
    ids=["type", "choice", "option", "class of a list", "option of a list", "type of a list"],
)
def test_what_is_wrong_in_a_yaml_is_told_in_words(
    content: dict[str, object], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({"data": "Cues"} | content))
    assert told in sentence_of(["fit", f"--config={path}"], capsys)


def test_what_is_wrong_with_the_model_of_an_arm_is_told_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = {"no_masks": {"title": "x", "model": {"maskng": "none"}}, "layer_masking": {"title": "y"}}
    path = tiny_claim("claim_cues.yaml", tmp_path / "claim.yaml", arms=arms)
    assert sentence_of(["claim", f"--config={path}", f"--out={tmp_path / 'out'}"], capsys) == (
        "arm 'no_masks' does not fit the model (see model and arms.no_masks.model): Option 'maskng' is not accepted; "
        "maskrobust COMMAND --help lists the options."
    )
    path = tiny_claim("claim_cues.yaml", tmp_path / "claim.yaml", arms={"no_masks": 3})
    sentence = sentence_of(["claim", f"--config={path}", f"--out={tmp_path / 'out'}"], capsys)
    assert sentence == "arms must be an Arm with its options, got '3'; see maskrobust COMMAND --help."


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
    ({"arms": {"no_masks": {"title": "x", "model": {"mask_family": "dots"}}, "layer_masking": {"title": "y"}}}, "dots"),
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
