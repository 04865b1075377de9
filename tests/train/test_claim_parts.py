"""A claim made by several processes: parts at once, locks, and joining what is there."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from maskrobust.train.claim.locks import run_lock
from maskrobust.train.cli import main
from tests.train.tiny import TINY_DATA, tiny_claim

PARTS = (["--arm=[no_masks, layer_masking_at_test, mcal]"], ["--arm=[patches_mean, layer_masking]", "--seed=1"])


def claim_with_borrowed_networks(path: Path) -> Path:
    """One seed of the smallest claim with both kinds of arms that use another one's network."""
    content = yaml.safe_load(tiny_claim("claim_cues.yaml", path).read_text())
    content["data"]["init_args"] |= TINY_DATA | {"train_images": 32, "test_images": 16, "image_size": 32}
    arms = {name: content["arms"][name] for name in ("no_masks", "patches_mean", "layer_masking")}
    arms["no_masks"]["method"] = "mean"
    arms["layer_masking_at_test"] = {"title": "Test", "network_of": "no_masks", "method": "layer_masking"}
    arms["mcal"] = {"title": "MCal", "network_of": "no_masks", "calibration": True, "method": "mean"}
    content |= {"arms": arms, "seeds": [1]}
    content["evaluation"]["methods"] = ["mean", "layer_masking"]
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A configuration, and the folder of its claim, made by one process."""
    folder = tmp_path_factory.mktemp("parts")
    config = claim_with_borrowed_networks(folder / "claim.yaml")
    main(["claim", f"--config={config}", f"--out={folder / 'out'}"])
    return config, folder / "out"


def numbers(out: Path) -> tuple[Any, ...]:
    claim = json.loads((out / "claim.json").read_text())
    return claim["arms"], claim["verdict"], claim["rows"]


def command(config: Path, out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "maskrobust.train.cli", "claim", f"--config={config}", f"--out={out}", *options]


def sentence_of(config: Path, out: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    with pytest.raises(SystemExit):
        main(["claim", f"--config={config}", f"--out={out}", *options])
    (sentence,) = capsys.readouterr().err.strip().splitlines()
    return sentence


@contextmanager
def held(lock: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a lock until the block ends."""
    holding = "import sys, filelock; it = filelock.FileLock(sys.argv[1]); it.acquire(); print(flush=True); input()"
    lock.parent.mkdir(parents=True, exist_ok=True)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", holding, str(lock)], text=True, **pipes) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def test_parts_made_at_once_and_joined_are_the_claim_of_one_process(
    finished: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, expected = finished
    out = tmp_path / "out"
    processes = [
        subprocess.Popen(command(config, out, *options), stdout=subprocess.PIPE, text=True) for options in PARTS
    ]
    try:
        printed = [process.communicate(timeout=200)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0]
    assert "all runs are there" in "".join(printed)
    assert not (out / "claim.json").exists() and not (out / "probe").exists()
    weights = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    main(["claim", f"--config={config}", f"--out={out}", "--collect"])
    assert numbers(out) == numbers(expected)
    assert (out / "report.html").is_file()
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} == weights
    assert "training   Patches" not in capsys.readouterr().out


def test_collecting_names_the_runs_that_are_missing(
    finished: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, _ = finished
    out = Path(shutil.copytree(finished[1], tmp_path / "out"))
    shutil.rmtree(out / "arms" / "patches_mean")
    (out / "arms" / "mcal" / "seed-1" / "outcomes-mean.npz").unlink()
    sentence = sentence_of(config, out, capsys, "--collect")
    assert "2 of 4 are missing" in sentence
    assert "patches_mean (seed 1), mcal (seed 1); make each with --arm and --seed" in sentence


@pytest.mark.parametrize("arm", ["mcal", "layer_masking_at_test"])
def test_a_part_without_the_network_it_uses_names_the_run_to_make_first(
    finished: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], arm: str
) -> None:
    sentence = sentence_of(finished[0], tmp_path / "out", capsys, f"--arm={arm}")
    assert f"arm '{arm}' uses the network of arm 'no_masks', seed 1" in sentence
    assert "--arm no_masks --seed 1" in sentence
    assert list((tmp_path / "out").rglob("*.npz")) == []


def test_a_calibration_is_fitted_once(finished: tuple[Path, Path], tmp_path: Path) -> None:
    config, expected = finished
    out = Path(shutil.copytree(expected, tmp_path / "out"))
    folder = out / "arms" / "mcal" / "seed-1"
    fitted = (folder / "calibration.safetensors").stat().st_mtime_ns
    (folder / "outcomes-mean.npz").unlink()
    main(["claim", f"--config={config}", f"--out={out}"])
    assert (folder / "calibration.safetensors").stat().st_mtime_ns == fitted
    assert numbers(out) == numbers(expected)


def test_a_part_that_another_process_makes_is_refused_and_left_alone(
    finished: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = finished[0], tmp_path / "out"
    run = out / "arms" / "no_masks" / "seed-1"
    run.mkdir(parents=True)
    (run / "half").write_text("made by the other process")
    with held(run.with_name("seed-1.lock")):
        sentence = sentence_of(config, out, capsys, "--arm=no_masks")
    assert "arm 'no_masks', seed 1, is being made by another process" in sentence
    assert (run / "half").exists()


def test_a_whole_claim_waits_for_the_process_that_makes_one_of_its_runs(
    finished: tuple[Path, Path], tmp_path: Path
) -> None:
    config, expected = finished
    out = Path(shutil.copytree(expected, tmp_path / "out"))
    run = out / "arms" / "patches_mean" / "seed-1"
    (out / "claim.json").unlink()
    moved = run.rename(tmp_path / "made-by-the-other")
    with held(run.with_name("seed-1.lock")) as other:
        waiting = subprocess.Popen(command(config, out), stdout=subprocess.PIPE, text=True)
        assert waiting.stdout is not None
        try:
            line = next(each for each in waiting.stdout if each.startswith("waiting"))
            assert "Patches, mean fill, seed 1" in line
            moved.rename(run)
            os.kill(other.pid, signal.SIGKILL)  # its lock goes with it
            printed = waiting.communicate(timeout=200)[0]
        finally:
            waiting.kill()
    assert waiting.returncode == 0
    assert "training" not in printed
    assert numbers(out) == numbers(expected)


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    with held(lock) as other:
        with pytest.raises(ValueError, match="the run is being made by another process"), run_lock(lock, "the run"):
            pass
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        start = time.monotonic()
        with run_lock(lock, "the run"):
            assert time.monotonic() - start < 10
