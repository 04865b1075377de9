"""`maskrobust fit`: where a run logs, what it resumes from, and what it says."""

import json
import os
import re
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from maskrobust.configs import find_config
from maskrobust.lm_modules.networks.architectures import build_network
from maskrobust.train.cli import main
from tests.train.runs import last, next_commands, rows
from tests.train.test_cli import sentence_of
from tests.train.tiny import FEW_MEASURES, tiny_fit

resumes = pytest.mark.filterwarnings("ignore:The dirpath has changed")


def arguments_of(command, folder, *more):
    return [command, *tiny_fit("cues.yaml", folder), "--trainer.callbacks=[]", *more]


def save_weights(path):
    torch.manual_seed(1)
    torch.save(build_network("small_resnet", 8, {"width": 16}).state_dict(), path)
    return path


def fit(folder, *more):
    """Train for two steps, and return the last checkpoint."""
    main(arguments_of("fit", folder, *more))
    return last(folder)


@resumes
def test_a_run_goes_on_from_its_last_checkpoint_even_when_the_weights_it_started_from_are_gone(tmp_path, capsys):
    """It was written by a plugin that was given."""
    weights = save_weights(tmp_path / "weights.pt")
    plugin = "--trainer.plugins=[lightning_fabric.plugins.TorchCheckpointIO]"
    path = fit(tmp_path, f"--model.weights={weights}", plugin)
    weights.unlink()
    saved = torch.load(path)
    for ramp in (0.5, 0.0):  # as version 0.3.0 wrote it, of which only the default can go on
        saved["hyper_parameters"]["mask_ramp"] = ramp
        torch.save(saved, path)
        if ramp:
            refused = sentence_of(arguments_of("fit", tmp_path, "--ckpt_path=last"), capsys)
            assert "has 'mask_ramp'; give it as --model.weights" in refused
    assert torch.load(fit(tmp_path, "--ckpt_path=last", "--trainer.max_epochs=2"))["global_step"] == 4


@resumes
def test_a_run_goes_on_from_the_newest_last_checkpoint_by_the_schedule_of_its_new_length(tmp_path, capsys):
    watched = ["--trainer.max_epochs=3", "--trainer.log_every_n_steps=1"]
    undisturbed = fit(tmp_path / "whole", *watched)
    whole = torch.load(undisturbed)
    capsys.readouterr()
    older = fit(tmp_path / "parts", "--ckpt_path=auto")
    first, *_ = capsys.readouterr().out.splitlines()
    assert first == f"there is no last checkpoint of a run in '{tmp_path / 'parts/cues'}' yet: a new run begins."
    os.utime(older, (0, 0))
    newer = fit(tmp_path / "parts", "--ckpt_path=auto", "--trainer.max_epochs=2")
    newest = fit(tmp_path / "parts", "--ckpt_path=last", *watched)
    assert [torch.load(path)["global_step"] for path in (older, newer, newest)] == [2, 4, 6]
    assert {row["epoch"] for row in rows(newest.parents[1]) if row["epoch"]} == {"2"}  # it went on from the newer one
    parts = torch.load(newest)
    assert parts["lr_schedulers"] == whole["lr_schedulers"]
    rates = [[group["lr"] for group in each["optimizer_states"][0]["param_groups"]] for each in (parts, whole)]
    assert rates == [[0.0, 0.0]] * 2
    every = [_rates(path.parents[1]) for path in (newest, undisturbed)]
    assert list(every[0]) == ["4", "5"] and every[0] == {step: every[1][step] for step in every[0]}


def _rates(folder):
    """The learning rates of each step that was logged."""
    names = [f"train/learning_rate/pg{group}" for group in (1, 2)]
    return {row["step"]: [row[name] for name in names] for row in rows(folder) if row[names[0]]}


def test_going_on_with_a_misspelt_run_is_refused_with_the_name_of_the_nearest(tmp_path, capsys):
    for run_name in ("cues", "others"):
        path = tmp_path / run_name / "version_0" / "checkpoints" / "last.ckpt"
        path.parent.mkdir(parents=True)
        path.touch()
    sentence = sentence_of(arguments_of("fit", tmp_path, "--run_name=cuse", "--ckpt_path=last"), capsys)
    assert sentence.startswith(
        f"there is no last checkpoint of a run in '{tmp_path / 'cuse'}' (did you mean cues?); correct"
    )
    assert not (tmp_path / "cuse").exists()


@pytest.mark.parametrize("given", [["-ccues"], ["-c=cues.yaml"], ["--config", "cues"]])
def test_a_shipped_config_is_found_however_it_is_given(given, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["fit", *given, "--print_config"])
    assert stopped.value.code == 0
    assert "run_name: cues" in capsys.readouterr().out
    assert "run_name: cues" in find_config("cues").read_text()


def test_how_long_to_train_has_to_be_said(tmp_path, capsys):
    arguments = arguments_of("fit", tmp_path / "runs", "--trainer.max_epochs=null")
    assert sentence_of(arguments, capsys).startswith("fit must be told how long to train")
    assert not (tmp_path / "runs").exists()
    main([*arguments, "--trainer.max_steps=1"])
    main([*arguments, "--trainer.fast_dev_run=true"])


def test_a_fit_keeps_its_best_checkpoint_and_ends_with_commands_to_go_on(tmp_path, capsys, monkeypatch):
    run_folder = tmp_path / "runs 1/cues/version_0"
    checkpoints = run_folder / "checkpoints"
    main(arguments_of("fit", tmp_path / "runs 1"))
    network, *_, folder, value, best, latest, _, _ = (told := capsys.readouterr().out).splitlines()
    assert "epoch" not in told.replace(value, "")  # the progress bar is off
    assert re.fullmatch(r"network: SmallResNet, ([0-9,]+) parameters, \1 of which are trained", network)
    assert folder == f"run:  {run_folder}"
    assert re.fullmatch(r"best val/accuracy [\d.]+, of epoch 1", value)
    assert best == f"best: {checkpoints / 'best.ckpt'}"
    assert latest == f"last: {checkpoints / 'last.ckpt'}"
    predict, evaluate = next_commands(told)
    (tmp_path / "IMAGES").mkdir()
    Image.new("RGB", (60, 60)).save(tmp_path / "IMAGES/a.png")
    monkeypatch.chdir(tmp_path)
    main(predict)
    assert "\nIMAGES/a.png,1.0" in (run_folder / "new_predictions.csv").read_text()
    main([*evaluate, *FEW_MEASURES])
    (network,) = json.loads((run_folder / "evaluation/reliance.json").read_text())["networks"]
    assert network == str(checkpoints / "best.ckpt")


@pytest.mark.parametrize("bar", ["RichProgressBar", "TQDMProgressBar"])
def test_each_epoch_has_one_row_with_the_best_value_so_far_whatever_bar_there_is(bar, tmp_path, capsys):
    chosen = [f"--trainer.callbacks={bar}", "--trainer.enable_progress_bar=true", "--data.train_images=32"]
    fit(tmp_path, *chosen, "--trainer.max_epochs=4", "--model.learning_rate=0.5")
    printed = [line.split() for line in re.split(r"[\r\n]+", capsys.readouterr().out)]
    (start,) = (place for place, words in enumerate(printed) if words[:2] == ["epoch", "time"])
    told = [words for words in printed[start:] if re.fullmatch(r"\d/4", "".join(words[:1]))]
    validated, best = [row for row in rows(tmp_path) if row["val/loss"]], (0.0, 0)
    names = ("val/loss", "val/accuracy", "val/balanced_accuracy", "val/accuracy_half_hidden")
    assert len(told) == len(validated) == 4
    for epoch, (words, row) in enumerate(zip(told, validated, strict=True), start=1):
        best = max(best, (float(row["val/accuracy"]), epoch), key=lambda each: each[0])
        assert words[0] == f"{epoch}/4" and words[2] == "s"
        assert words[4:8] == [f"{float(row[name]):.4f}" for name in names]
        assert words[8:] == [f"{best[0]:.4f}", "(epoch", f"{best[1]})"]
    assert ["best", "val/accuracy", f"{best[0]:.4f},", "of", "epoch", f"{best[1]}"] in printed
    assert [row["step"] for row in rows(tmp_path) if row["train/loss"]] == ["1", "3", "5", "7"]  # however short


@resumes
@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
def test_a_training_that_goes_on_knows_the_epoch_of_its_best_value(name, tmp_path, capsys):
    options = ["--model.learning_rate=1e-9", "--data.train_images=32"]
    path = fit(tmp_path / "1", *options).with_name(name)
    fit(tmp_path / "2", *options, "--trainer.max_epochs=2", f"--ckpt_path={path}")
    epochs = re.findall(r"best val/accuracy [\d.]+, of epoch (\d)", capsys.readouterr().out)
    assert epochs == ["1", "1"]


def test_reliance_is_measured_in_a_training_where_one_word_asks_and_suggested_otherwise(tmp_path, capsys, caplog):
    for asked in (False, True):
        caplog.clear()
        with caplog.at_level("INFO", "pytorch_lightning.utilities.rank_zero"):
            folder = fit(tmp_path / f"{asked}", f"--reliance={asked}".lower()).parents[1]
        suggested = [each for each in caplog.messages if "object masks: --reliance true measures" in each]
        measured = [name for name in rows(folder.parent.parent)[0] if name.startswith("reliance/layer_masking/")]
        assert (len(suggested), bool(measured)) == (not asked, asked)


@pytest.mark.parametrize("more", ["--trainer.callbacks=ModelCheckpoint", "--trainer.limit_val_batches=0"])
def test_who_keeps_checkpoints_or_validates_nothing_gets_no_best_one(more, tmp_path):
    main(arguments_of("fit", tmp_path, "--trainer.callbacks=[]", more))
    assert "best.ckpt" not in {path.name for path in tmp_path.rglob("*.ckpt")}


def test_a_run_does_not_go_on_with_other_classes(tmp_path, capsys):
    checkpoint = fit(tmp_path)
    content = torch.load(checkpoint)
    name, content["class_names"][1] = content["class_names"][1], "another"
    torch.save(content, checkpoint)
    sentence = sentence_of(arguments_of("fit", tmp_path, "--ckpt_path=last", "--trainer.max_epochs=2"), capsys)
    assert sentence.startswith(f"'{checkpoint}' was trained with class 1 another, got {name}; go on with the same")


@resumes
@pytest.mark.parametrize("logger", ["false", "{class_path: CSVLogger, init_args: {save_dir: elsewhere, name: mine}}"])
def test_every_run_has_its_folder_whatever_it_logs_to(logger, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("mine")
    chosen = ["--run_name=named", f"--trainer.logger={logger}"]
    main(arguments_of("fit", Path("runs"), *chosen))
    told = capsys.readouterr().out
    main(arguments_of("fit", Path("runs"), *chosen, "--ckpt_path=last", "--trainer.max_epochs=2"))
    assert "run:  runs/named/version_0\n" in told and (tmp_path / "config.yaml").read_text() == "mine"
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    of_run = ("classes.csv", "confusion.png", "config.yaml", "checkpoints/best.ckpt", "checkpoints/last.ckpt")
    kept = {f"runs/named/version_{number}/{name}" for number in range(2) for name in of_run}
    logged = {
        f"elsewhere/mine/version_{number}/{name}" for number in range(2) for name in ("metrics.csv", "hparams.yaml")
    }
    assert found == {"config.yaml"} | kept | (logged if "elsewhere" in logger else set())


NO_EFFECT = {
    "model.fill": (["--model.masking=layer_masking", "--model.fill=mean"], "model.masking layer_masking"),
    "model.hidden_fraction": (["--model.masking=none", "--model.hidden_fraction=[0.1, 0.2]"], "model.masking none"),
    "model.patch_size": (["--model.patch_size=65", "--data.image_size=64"], "images of 64 pixels, which are smaller"),
    "model.label_smoothing": (
        ["--model.masking=fill", "--model.objective=consistency", "--model.label_smoothing=0.1"],
        "model.objective consistency",
    ),
    "model.momentum": (["--model.optimiser=adamw", "--model.momentum=0.5"], "model.optimiser adamw"),
    "model.learning_rate": (["--optimizer=SGD", "--optimizer.lr=0.2", "--model.learning_rate=0.1"], "--optimizer, "),
}


@pytest.mark.parametrize("name", NO_EFFECT)
def test_an_option_without_effect_is_refused_with_what_makes_it_useless(name, tmp_path, capsys):
    options, reason = NO_EFFECT[name]
    usual = ["fit", "--data=Cues", "--trainer.max_epochs=1", f"--trainer.default_root_dir={tmp_path}"]
    assert sentence_of([*usual, *options], capsys).startswith(f"{name} has no effect with {reason}")


def as_yaml(path, **model):
    path.write_text(yaml.safe_dump({"model": model}))
    return f"--config={path}"


def test_an_option_of_a_yaml_has_an_effect_unless_something_later_takes_it(tmp_path, capsys):
    masked, filled = as_yaml(tmp_path / "a.yaml", masking="layer_masking"), as_yaml(tmp_path / "b.yaml", fill="black")
    both = as_yaml(tmp_path / "c.yaml", masking="layer_masking", fill={"mean": 1})
    for useless in ([both], [masked, filled], ["--config", masked.removeprefix("--config="), "--model.fill=black"]):
        said = sentence_of(arguments_of("fit", tmp_path, *useless), capsys)
        assert said.startswith("model.fill has no effect with model.masking layer_masking")
    own = fit(tmp_path, filled, masked).parents[1] / "config.yaml"
    fit(tmp_path, f"--config={own}")  # which has every option


REFUSED = {
    "99 processes on a few cores": (
        ["--trainer.devices=99", "--trainer.accelerator=cpu"],
        r"trainer.devices must be at most the number of the CPU's cores, \d+, got 99; give 1",
    ),
    "a logger whose library is missing": (
        ["--trainer.logger=TensorBoardLogger", "--trainer.logger.save_dir=GIVEN"],
        r"a library is needed here, but cannot be imported \(Neither `tensorboard` nor .*\); install it",
    ),
    "a bucket": (
        ["--trainer.default_root_dir=memory://runs"],
        "trainer.default_root_dir must be a folder of this machine, got 'memory://runs'",
    ),
    "no checkpoint": (["--ckpt_path=last"], "there is no last checkpoint of a run"),
    "a folder": (["--ckpt_path=GIVEN"], r"'GIVEN' is a folder; give a file in it\."),
    "a schedule alone": (
        ["--lr_scheduler=torch.optim.lr_scheduler.StepLR", "--lr_scheduler.step_size=1"],
        "lr_scheduler is for an optimizer of torch.optim, got none; give --optimizer, too",
    ),
    "no model": (["--config=GIVEN/model.yaml"], r"model must hold options and their values, got '\[1\]'; change it"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_fit_cannot_do_is_one_sentence(name, tmp_path, capsys, monkeypatch):
    options, said = REFUSED[name]
    runs, given = tmp_path / "runs", tmp_path / "given"
    given.mkdir()
    (given / "model.yaml").write_text("model: [1]")
    monkeypatch.chdir(tmp_path)
    options = [each.replace("GIVEN", str(given)).replace("RUNS", str(runs)) for each in options]
    usual = ["fit", "--data=Cues", "--trainer.max_epochs=1"] if ".yaml" in options[0] else arguments_of("fit", runs)
    assert re.search(said.replace("GIVEN", str(given)), sentence_of([*usual, *options], capsys))
    assert [*tmp_path.iterdir()] == [given]
