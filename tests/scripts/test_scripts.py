"""The shell scripts: they parse, set themselves up once, and refuse in one sentence. Python is played by a stand-in.

The launchers are in test_launchers.py.
"""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from maskrobust.train.cli import main
from tiles import write_tiles

ROOT = Path(__file__).parents[2]
COMMANDS = [
    *(path for path in sorted((ROOT / "scripts").iterdir()) if path.is_file() and path.name[0] != "_"),
    ROOT / ".ci" / "run",
]
STAND_IN = """#!/usr/bin/env bash
if [[ $1 == -c ]]; then [[ $2 != *version_info* || ! -e $CLONE/old-python ]]; exit; fi
echo "$@" >>"$CLONE/calls"
[[ $* != *--list* ]] || printf '%s\n' '--arm=[no_masks,mcal] --seed=1' '--arm=[patches] --seed=1'
case "$1 $2" in
    "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && cp "$0" "$3/bin/maskrobust" ;;
    "-m pip") [[ ! -e $CLONE/pip-fails ]] ;;
    "-m ${FAILING:-nothing}") exit 1 ;;
esac
"""


@pytest.fixture
def clone(tmp_path):
    return make_clone(tmp_path)


def make_clone(tmp_path):
    """A clone with a blank in its path: the scripts, a pyproject.toml, and a PATH that holds the stand-in alone."""
    clone = tmp_path / "my clone"
    shutil.copytree(ROOT / "scripts", clone / "scripts")
    (clone / "pyproject.toml").write_text("[project]\n")
    (clone / "maskrobust").mkdir()
    path = tmp_path / "path"
    path.mkdir()
    for tool in ("bash", "cat", "chmod", "cksum", "cp", "dirname", "env", "ln", "mkdir", "rm"):
        (path / tool).symlink_to(shutil.which(tool))
    (path / "python3").write_text(STAND_IN)
    (path / "python3").chmod(0o755)
    return clone


def run(clone, script, *arguments, **environment):
    environment |= {"PATH": str(clone.parent / "path"), "CLONE": str(clone)}
    command = [str(clone / "scripts" / script), *arguments]
    options = {"cwd": clone.parent, "env": environment, "capture_output": True, "text": True}
    return subprocess.run(command, **options, check=False, timeout=60)


def calls(clone):
    """What the stand-in was asked to do since the last time, the clone's path shortened."""
    log = clone / "calls"
    lines = log.read_text().replace(str(clone), "CLONE").splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return lines


CREATE = "-m venv CLONE/.venv"
INSTALL = "-m pip install --quiet --disable-pip-version-check --editable CLONE"
PYTEST = "-m pytest -q -n auto --maxprocesses 8 --dist worksteal"
DEMO = ["fit", "fit", "evaluate"]
TILES = "scripts/drawing/tiles.py CLONE/runs/demo/tiles --seed 0"


@pytest.mark.parametrize("script", COMMANDS, ids=lambda script: script.name)
def test_command_is_executable(script):
    assert os.access(script, os.X_OK)


def test_demo_sets_itself_up_once(clone):
    first = run(clone, "demo")
    assert first.returncode == 0
    created, installed, drawn, *further = calls(clone)
    assert (created, installed, drawn) == (CREATE, INSTALL, TILES)
    assert [line.split()[0] for line in further] == DEMO
    assert commands_of(run(clone, "demo")) == DEMO
    assert calls(clone) == [drawn, *further]


def commands_of(answered):
    """The commands of maskrobust that a demo says it runs."""
    return [words[0] for program, *words in shown_commands(answered) if Path(program).name == "maskrobust"]


def shown_commands(answered):
    """Program and arguments of each command that a demo says it runs, on lines that a terminal has room for."""
    assert "\\ " not in answered.stdout and "\\[" not in answered.stdout
    lines = [line for line in answered.stdout.splitlines() if not line.startswith("    --network ")]
    assert all(len(line) <= 124 for line in lines)
    whole = answered.stdout.replace("\\\n", " ")
    return [shlex.split(line.removeprefix("$ ")) for line in whole.splitlines() if line.startswith("$ ")]


def test_a_changed_pyproject_and_a_moved_clone_are_installed_again(clone):
    run(clone, "demo")
    calls(clone)
    (clone / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    run(clone, "demo")
    assert calls(clone)[0] == INSTALL
    moved = clone.rename(clone.parent / "moved")
    run(moved, "demo")
    assert calls(moved)[0] == INSTALL


def test_a_failed_installation_is_tried_again(clone):
    (clone / "pip-fails").touch()
    failed = run(clone, "demo")
    assert failed.returncode == 1
    assert "failed" in failed.stderr.splitlines()[-1]
    (clone / "pip-fails").unlink()
    assert calls(clone) == [CREATE, INSTALL]
    assert run(clone, "demo").returncode == 0
    assert calls(clone)[0] == INSTALL


def test_demo_hands_seed_and_tiles_to_each_command(clone):
    drawn, painted, masked, evaluated = demo_calls(clone, "--seed", "3")
    assert drawn == TILES.replace("--seed 0", "--seed 3")
    for line in (painted, masked, evaluated):
        assert "--config demo.yaml --data.init_args.seed 3 --data.init_args.root CLONE/runs/demo/tiles" in line
    assert "--seed_everything 3" in painted and "--model.masking fill --model.fill black" in painted
    assert "--seed_everything 3" in masked and "--model.masking layer_masking" in masked
    assert (
        "/trained_painted/" in evaluated and "/trained_masked/" in evaluated and "[black, layer_masking]" in evaluated
    )


@pytest.mark.parametrize("options", [["--config=mine.yaml"], ["--outlines"], ["--config", "mine.yaml", "--outlines"]])
def test_demo_draws_no_tiles_for_other_images_and_removes_no_file_of_theirs(options, clone):
    kept = clone / "runs" / "demo" / "tiles" / "mine.png"
    kept.parent.mkdir(parents=True)
    kept.touch()
    config = "mine.yaml" if "mine.yaml" in str(options) else "demo_outlines.yaml"
    lines = demo_calls(clone, *options)
    assert [line.split()[0] for line in lines] == DEMO
    assert all(f"--config {config} --data.init_args.seed 0 --" in line and "root " not in line[20:70] for line in lines)
    assert ("[mean, layer_masking]" if "--outlines" in options else "[black, layer_masking]") in lines[-1]
    assert f"--out CLONE/runs/demo{'-outlines' * ('--outlines' in options)} " in lines[-1]
    assert kept.exists()


def demo_calls(clone, *options):
    """What a demo calls, the installation left out."""
    assert run(clone, "demo", *options).returncode == 0
    return calls(clone)[2:]


def test_demo_decides_the_claim_on_request(clone):
    run(clone, "demo", "--claim")
    assert calls(clone)[2:] == ["claim --config claim_demo.yaml --out CLONE/runs/demo-claim"]


TINY = """
trainer: {max_epochs: 1, limit_train_batches: 1, limit_val_batches: 1, enable_progress_bar: false}
data: {class_path: Cues, init_args: {train_images: 32, val_images: 8, test_images: 32, image_size: 32, num_classes: 2}}
model: {architecture: small_resnet, architecture_options: {width: 16}, patch_size: 8}
"""
SHORT = [f"--trainer.{each}" for each in ("max_epochs=1", "limit_train_batches=1", "enable_progress_bar=false")]


@pytest.mark.parametrize("options", [["--outlines", "--config"], []], ids=["outlines", "tiles"])
def test_the_demo_trains_two_networks_and_ends_with_the_headline_of_their_page(options, clone, monkeypatch, capsys):
    (clone / "tiny.yaml").write_text(TINY)
    answered = run(clone, "demo", *options, *[clone / "tiny.yaml"] * bool(options))
    monkeypatch.chdir(clone.parent)
    for program, *words in shown_commands(answered):
        if Path(program).name == "python":
            write_tiles(Path(words[1]), counts={"train": 32, "val": 8, "test": 24}, seed=int(words[3]))
        else:
            main([*words, *[*SHORT, "--data.init_args.num_workers=0"] * (words[0] == "fit" and not options)])
    said = capsys.readouterr().out
    page = (clone / "runs" / ("demo-outlines" if options else "demo") / "report.html").read_text()
    headline = re.sub(r"<[^>]*>", "", page[page.index("<h1") : page.index("</h1>")])
    assert " ".join(headline.split()) in " ".join(said.split())
    names = ("painted", "layer_masking") if options else ("trained_painted", "trained_masked")
    assert all(network in page for network in names)


def test_an_old_python_is_refused_in_one_line(clone):
    (clone / "old-python").touch()
    refused = run(clone, "demo")
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1
    assert "Python 3.11" in refused.stderr
    assert calls(clone) == []


def test_the_checks_run_all_and_hand_their_arguments_to_pytest(clone):
    assert run(clone, "test", "-k", "leak").returncode == 0
    assert calls(clone)[2:] == ["-m ruff check .", "-m ruff format --check .", "-m mypy", f"{PYTEST} -k leak"]


def test_the_site_is_built_with_what_it_needs(clone):
    assert run(clone, "docs").returncode == 0
    assert calls(clone) == [CREATE, f"{INSTALL}[docs]", "-m mkdocs build"]
    run(clone, "docs", "serve", "--dev-addr", "localhost:8001")
    run(clone, "demo")
    assert [line.split()[0] for line in calls(clone)] == ["-m", "scripts/drawing/tiles.py", *DEMO]


@pytest.mark.parametrize("failing", ["ruff", "mypy", "pytest"])
def test_one_failed_check_fails_the_run_but_lets_the_others_speak(clone, failing):
    checked = run(clone, "test", FAILING=failing)
    assert checked.returncode == 1
    assert failing in checked.stderr.splitlines()[-1]
    assert calls(clone)[-1] == PYTEST
