"""A claim from its configuration to its verdict: made by one process, in parts, and called again."""

import fcntl
import json
import os
import shutil
import signal
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import pytorch_lightning as pl
from filelock import FileLock

from maskrobust.train.claim.arms import STATE
from maskrobust.train.cli import main
from tests.processes import PATIENCE, started
from tests.train.runs import rows
from tests.train.test_cli import sentence_of
from tests.train.test_stopping import wait_for
from tests.train.tiny import write_claim

MEASURES = ("clean_accuracy", "retention", "silhouette_accuracy", "circle_accuracy", "silhouette_leak", "shape_choice")
ARMS = ["no_masks", "patches_mean", "layer_masking"]


def run(config, out, *options):
    main(["claim", f"--config={config}", f"--out={out}", *options])
    return claim_of(out)


def claim_of(out):
    return json.loads((out / "claim.json").read_text())


def numbers(claim):
    return claim["rows"], claim["verdicts"]


def rows_of(claim, arm, **wanted):
    """Rows of an arm itself, without its name."""
    rows = [row for row in claim["rows"] if row["network"] == arm and not row["compared_with"]]
    return [{**row, "network": ""} for row in rows if all(row[name] == value for name, value in wanted.items())]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A claim run once: its configuration, its folder and its claim.json."""
    folder = tmp_path_factory.mktemp("claim")
    config = write_claim(folder / "claim.yaml")
    return config, folder / "out", run(config, folder / "out")


@pytest.fixture
def copy(finished, tmp_path):
    """The same in a folder that may be changed."""
    config, out, claim = finished
    return config, Path(shutil.copytree(out, tmp_path / "out")), claim


def test_every_arm_and_method_has_rows_with_intervals(finished):
    claim = finished[2]
    assert list(claim["arms"]) == ARMS and claim["methods"] == ["mean", "layer_masking"]
    for arm in ARMS:
        for method in claim["methods"]:
            for measure in MEASURES:
                for seed in (None, 1):
                    wanted = {"network": arm, "method": method, "measure": measure, "seed": seed, "compared_with": ""}
                    (row,) = (each for each in claim["rows"] if wanted.items() <= each.items())
                    assert row["low"] <= row["value"] <= row["high"], wanted
    assert claim["verdicts"][0]["reason"].split("'")[0] in (finished[1] / "report.html").read_text()
    records = [json.loads(path.read_text())["provenance"] for path in (finished[1] / "arms").rglob("training.json")]
    assert len(records) == len(ARMS) and all(each["torch"] and each["machine"] for each in records)


def test_a_second_call_trains_and_measures_nothing_again(copy):
    config, out, before = copy
    written = {path: path.stat().st_mtime_ns for path in (out / "arms").rglob("*") if path.is_file()}
    assert numbers(run(config, out)) == numbers(before)
    assert {path: path.stat().st_mtime_ns for path in (out / "arms").rglob("*") if path.is_file()} == written


def test_missing_outcomes_are_measured_again_and_weights_may_go_where_no_missing_ones_need_them(copy):
    config, out, before = copy
    learned = {path: path.stat().st_mtime_ns for path in out.rglob("training.json")}
    (out / "arms" / "patches_mean" / "seed-1" / "answers" / "outcomes-mean.npz").unlink()
    files = (out / "arms" / arm / "seed-1" / "weights.safetensors" for arm in ("patches_mean", "layer_masking"))
    needed, measured = files
    needed.unlink()  # by the arm whose outcomes are missing
    measured.unlink()
    assert numbers(run(config, out)) == numbers(before)
    again = {path: path.stat().st_mtime_ns for path in out.rglob("training.json")}
    assert [path.parts[-3] for path, time in again.items() if time != learned[path]] == ["patches_mean"]
    assert needed.exists() and not measured.exists()


def test_a_damaged_file_is_named_with_its_remedy(copy, capsys):
    (config, out, _), name = copy, "arms/no_masks/seed-1/answers/outcomes-mean.npz"
    (out / name).write_bytes((out / name).read_bytes()[:100])
    sentence = sentence_of(["claim", f"--config={config}", f"--out={out}"], capsys)
    assert name in sentence and "delete it to have it made again" in sentence


def hold(lock, is_there):
    with FileLock(lock):
        is_there.touch()
        time.sleep(PATIENCE)


def test_a_run_that_another_process_is_making_is_left_to_it(copy, tmp_path, capsys):
    config, out, expected = copy
    for name in ("claim.json", "arms/patches_mean/seed-1/answers/outcomes-mean.npz"):
        (out / name).unlink()
    is_there = tmp_path / "is_there"
    with started(hold, out / "arms" / "patches_mean" / "seed-1.lock", is_there):
        wait_for(is_there.exists)
        main(["claim", f"--config={config}", f"--out={out}"])
    said = capsys.readouterr().out
    assert "runs left to other processes: 1;" in said and not (out / "claim.json").exists()
    assert numbers(run(config, out)) == numbers(expected)


def make_on_node(host, claim):
    """A process of one of several machines: its id is not unique among them, and its locks do not reach the others."""
    socket.gethostname = lambda: host
    os.getpid = lambda: 1
    fcntl.flock = fcntl.lockf = lambda *_: None
    main(claim)


def make_until_a_state_is_saved(host, claim):
    save = pl.Trainer.save_checkpoint

    def save_and_die(trainer, path):
        save(trainer, path)
        signal.raise_signal(signal.SIGKILL)

    pl.Trainer.save_checkpoint = save_and_die
    make_on_node(host, claim)


def test_nodes_without_locks_make_the_same_runs_lose_none_and_go_on_where_one_was_killed(tmp_path):
    dropout = {"architecture": "tests.train.networks.Tiny", "patch_size": 8}
    training = {"epochs": 2, "accelerator": "cpu"}
    config = write_claim(tmp_path / "claim.yaml", training=training, model=dropout)
    shared, expected = tmp_path / "shared", tmp_path / "expected"
    few = ["--evaluation.plan.curve_families=[]", "--evaluation.plan.transfer_families=[]"]
    claim = ["claim", f"--config={config}", f"--out={shared}", *few]
    with started(make_until_a_state_is_saved, "first", claim) as killed:
        assert killed.wait() == -signal.SIGKILL
    assert list(shared.glob(f"arms/no_masks/.*/{STATE}"))
    with ExitStack() as stack:
        said = tmp_path / "errors"
        nodes = [stack.enter_context(started(make_on_node, host, claim, errors=said)) for host in ("first", "second")]
        assert [node.wait(300) for node in nodes] == [0, 0], said.read_text()
    assert {row["epoch"] for row in rows(shared / "arms" / "no_masks")} == {"1"}  # 0 was saved
    assert numbers(claim_of(shared)) == numbers(run(config, expected, *few))
    for arm in ARMS:
        folder = Path("arms", arm, "seed-1")
        assert list((shared / folder).parent.glob(".seed-1.*")) == []
        learned = folder / "weights.safetensors"
        is_same = (shared / learned).read_bytes() == (expected / learned).read_bytes()
        assert is_same  # pytest would compare the bytes for minutes
