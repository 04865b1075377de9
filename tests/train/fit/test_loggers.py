"""Weights & Biases: real offline runs of `fit` and `claim`, read back from their files."""

import csv
import json
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import wandb
import yaml
from PIL import Image

from maskrobust.errors import InputError
from maskrobust.lm_modules.callbacks.reliance import TABLE_COLUMNS
from maskrobust.train.cli import main
from maskrobust.train.fit.loggers import loggers
from maskrobust.train.running.tracking import WandbOptions
from tests.train.offline_runs import offline_runs
from tests.train.runs import rows, run as run_command
from tests.train.tiny import FEW_MEASURES, TINY_DATA, tiny_fit

OPTIONS = ("--wandb.project=holes", "--wandb.group=cues", "--wandb.tags=[small, test]")
FIGURES = (
    "val/loss",
    "val/accuracy",
    "val/balanced_accuracy",
    "val/accuracy_half_hidden",
    "reliance/black/silhouette_leak",
)
OF_EACH_STEP = ("train/loss", "train/learning_rate/pg1")


def arguments(folder, *more):
    """A fit of two steps an epoch that logs each of them."""
    return ["fit", *tiny_fit("cues.yaml", folder), "--trainer.log_every_n_steps=1", *more]


@contextmanager
def settings(**variables):
    """W&B as it is for a user who is not logged in, with environment variables; nothing of it stays behind."""
    wandb.teardown()
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT"):
                patch.delenv(name, raising=False)
            patch.setenv("NETRC", "nowhere")
            for name, value in variables.items():
                patch.setenv(name, value)
            yield
    finally:
        wandb.teardown()


@pytest.fixture
def _logged_out():
    with settings():
        yield


logged_out = pytest.mark.usefixtures("_logged_out")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a training of two epochs; one that goes on with it; and one that starts from its weights."""
    folder = tmp_path_factory.mktemp("offline")
    first = ("--trainer.max_epochs=2", "--trainer.callbacks.every_n_epochs=1")
    resumed = arguments(folder, *OPTIONS, "--trainer.max_epochs=3", "--ckpt_path=last", "--trainer.callbacks=[]")
    resumed.append("--model.warmup_fraction=0")
    with settings():
        main(arguments(folder, *OPTIONS, *first, "--model.warmup_fraction=0"))
        run_command(resumed)
        weights = folder / "cues/version_0/checkpoints/last.ckpt"
        main(arguments(folder, *OPTIONS, f"--model.weights={weights}", "--trainer.callbacks=[]"))
    return folder


@pytest.fixture(scope="module")
def runs(folder):
    return offline_runs(folder)


def test_a_run_has_the_name_the_project_the_group_and_the_tags_that_were_given(runs):
    for run in runs:
        assert (run.name, run.project, run.group, sorted(run.tags)) == ("cues", "holes", "cues", ["small", "test"])
        assert run.exit_code == 0


def test_the_configuration_is_the_one_beside_the_logs_as_one_nested_dict(folder, runs):
    written = yaml.safe_load((folder / "cues/version_0/config.yaml").read_text())
    found = {name: value for name, value in runs[0].config.items() if name != "_wandb"}
    assert found == written
    assert found["model"]["architecture_options"] == {"width": 16}
    assert torch.load(folder / "cues/version_0/checkpoints/last.ckpt")["config"] == written


def test_every_epoch_logs_its_figures_and_every_step_its_own(folder, runs):
    first = runs[0]
    for name in FIGURES:
        assert len(first.logged(name)) == 2, name
    for name in OF_EACH_STEP:
        assert len(first.logged(name)) == 4, name
    for name in (*FIGURES, *OF_EACH_STEP):
        written = [float(row[name]) for row in rows(folder / "cues/version_0") if row[name]]
        assert written == first.logged(name), name


def test_each_epoch_shows_how_the_classes_were_answered(folder, runs):
    with (folder / "cues/version_0/classes.csv").open(newline="") as file:
        _, *lines = csv.reader(file)
    *_, last = runs[0].logged("val/classes")
    table = json.loads((runs[0].folder / "files" / last["path"]).read_text())
    assert [[name, str(count), str(accuracy)] for name, count, accuracy in table["data"]] == [
        each[:3] for each in lines
    ]
    *_, picture = runs[0].logged("val/confusion")
    with (
        Image.open(runs[0].folder / "files" / picture["filenames"][0]) as shown,
        Image.open(folder / "cues/version_0/confusion.png") as kept,
    ):
        assert shown.tobytes() == kept.convert(shown.mode).tobytes()


def test_a_table_holds_the_measures_of_all_epochs(runs):
    *_, last = runs[0].logged("reliance/rows")
    table = json.loads((runs[0].folder / "files" / last["path"]).read_text())
    assert table["columns"] == list(TABLE_COLUMNS)
    assert {row[0] for row in table["data"]} == {0, 1}


@pytest.mark.parametrize(
    ("name", "best"),
    [
        ("val/accuracy", max),
        ("val/loss", min),
        ("reliance/black/retention_0.5", max),
        ("reliance/black/silhouette_leak", None),  # "zero" is its goal: neither end is best
    ],
)
def test_the_summary_has_the_last_and_the_best_value_by_the_goal_of_the_measure(name, best, runs):
    run, values = runs[0], runs[0].logged(name)
    ends = {"last": values[-1]} | ({} if best is None else {best.__name__: best(values)})
    assert len(values) == 2 and run.summary[name] == ends
    assert run.metrics[name].step_metric == "trainer/global_step"


def test_a_resumed_training_goes_on_with_its_run(folder, runs):
    first, resumed, anew = runs
    assert resumed.id == first.id
    steps = torch.load(folder / "cues/version_0/checkpoints/last.ckpt")["global_step"]
    assert resumed.logged("trainer/global_step")[0] == steps > 0
    assert anew.id != first.id
    assert anew.logged("trainer/global_step")[0] == 0


@logged_out
def test_an_evaluation_is_a_run_in_the_group_of_its_training_with_its_rows_and_its_page(folder, runs, tmp_path):
    checkpoint = str(folder / "cues/version_1/checkpoints/last.ckpt")
    data = ["--data=Cues", *(f"--data.{name}={value}" for name, value in TINY_DATA.items())]
    said = {"": "--wandb=true", "other": "--wandb.project=other"}
    for name, option in said.items():
        out = tmp_path / f"evaluated {name}"
        main(["evaluate", f"--network={checkpoint}", *data, *FEW_MEASURES, "--methods=[black]", f"--out={out}", option])
    run, other = offline_runs(tmp_path)
    assert (run.name, run.project, run.group, run.exit_code) == ("evaluated ", "holes", "cues", 0)
    assert (other.project, other.group) == ("other", "")
    assert run.entity == other.entity == ""
    found = json.loads((tmp_path / "evaluated /reliance.json").read_text())
    table = json.loads((run.folder / "files" / run.logged("rows")[0]["path"]).read_text())
    assert [line[3:6] for line in table["data"]] == [[row["value"], row["low"], row["high"]] for row in found["rows"]]
    page = run.folder / "files" / run.logged("page")[0]["path"]
    assert page.read_bytes() == (tmp_path / "evaluated /report.html").read_bytes()
    (accuracy,) = (row for row in found["rows"] if row["measure"] == "silhouette_accuracy")
    assert run.summary["reliance/black/silhouette_accuracy"] == accuracy["value"]
    assert run.config["settings"]["split"] == "test"


@logged_out
@pytest.mark.parametrize(("run_name", "goes_on"), [("cues", True), ("other", False)])
def test_a_run_of_another_name_is_another_run(run_name, goes_on, folder, runs, tmp_path):
    checkpoint = str(folder / "cues/version_0/checkpoints/last.ckpt")
    _, run = loggers(tmp_path, run_name, WandbOptions(project="holes"), checkpoint)
    assert run.version == (runs[0].id if goes_on else None)


@logged_out
@pytest.mark.parametrize("entity", [None, "team"])
def test_a_checkpoint_never_says_whose_project_is_logged_to(tmp_path, entity):
    run = {"id": "abc", "name": "cues", "project": "maskrobust", "entity": "team"}
    torch.save({"state_dict": {}, "wandb": run}, tmp_path / "team.ckpt")
    with pytest.MonkeyPatch.context() as patch:
        asked = []
        patch.setattr(wandb, "init", lambda **options: asked.append(options))
        options = WandbOptions(entity=entity)
        _ = loggers(tmp_path, "cues", options, str(tmp_path / "team.ckpt"))[1].experiment
    (given,) = asked
    assert (given["id"], given["entity"], given["resume"]) == ("abc", entity, "allow")


@pytest.mark.parametrize("stored", [{"id": "../../elsewhere"}, {"id": ""}, {"id": "a\nb"}, {"project": "p"}, None])
def test_a_run_of_a_checkpoint_that_is_no_run_or_of_another_project_is_another_run(tmp_path, stored):
    run = {"id": "abc", "name": "cues", "project": "maskrobust"}
    torch.save({"state_dict": {}, "wandb": "abc" if stored is None else run | stored}, tmp_path / "run.ckpt")
    assert loggers(tmp_path, "cues", WandbOptions(), str(tmp_path / "run.ckpt"))[1].version is None


@logged_out
def test_a_training_that_fails_ends_its_run_as_failed(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("out of luck")

    monkeypatch.setattr("maskrobust.lm_modules.training.classifier.MaskRobustClassifier.validation_step", fail)
    with pytest.raises(RuntimeError, match="out of luck"):
        main(arguments(tmp_path, "--config=overlays/wandb", "--trainer.callbacks=[]"))
    (run,) = offline_runs(tmp_path)
    assert run.exit_code == 1


def test_a_run_waits_for_its_server_no_longer_than_it_says(tmp_path, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr("maskrobust.train.fit.loggers.rank_zero_info", said.append)
    asked: list[dict[str, Any]] = []
    with settings(WANDB_API_KEY="a" * 40, WANDB_BASE_URL="http://127.0.0.1:9"):

        def begin(**options):
            asked.append(options)
            raise wandb.errors.CommError("connection refused")

        monkeypatch.setattr(wandb, "login", lambda **_: True)  # which would ask the server
        monkeypatch.setattr(wandb, "init", begin)
        with pytest.raises(InputError, match=r"must begin in Weights & Biases, but that failed \(connection refused\)"):
            _ = loggers(tmp_path, "run", WandbOptions(), None)[1].experiment
    assert said == ["connecting to Weights & Biases, for up to 30 seconds"]
    assert asked[0]["settings"].init_timeout == 15.0  # W&B asks three times for who is logged in, for 5 seconds each
