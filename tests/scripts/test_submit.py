"""`maskrobust submit` on a real SLURM of one node: jobs that are stopped resume, an array that fails, two tasks."""

import sys

import pytest
import torch

from maskrobust.train.commands.submit import main
from tests.scripts.slurm import running_slurm, wait_until
from tests.test_house import ROOT
from tests.train.fit.test_resume import arguments

PYTHON = sys.executable
TWO = ("--gpus=0", "--ntasks-per-node=2")


@pytest.fixture(scope="module")
def slurm():
    with running_slurm() as slurm:
        yield slurm


@pytest.fixture
def play(tmp_path, monkeypatch):
    """Have the Python of jobs do something else."""
    python = tmp_path / "my python"
    monkeypatch.setattr(sys, "executable", str(python))

    def write(script):
        python.write_text(f"#!/usr/bin/env bash\n{script}\n")
        python.chmod(0o755)

    return write


@pytest.fixture
def submit(slurm, tmp_path, monkeypatch, capsys):
    """Submit; the job's number. What it says lies in the file job-NUMBER of the folder."""
    monkeypatch.chdir(tmp_path)
    computed = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    for name, value in (slurm.environment | computed).items():
        monkeypatch.setenv(name, value)

    def launch(kind, *options, arguments):
        main(["submit", kind, *options, "--output=job-%j", "--", *arguments])
        submitted, following = capsys.readouterr().out.splitlines()
        job = submitted.removeprefix("submitted job ")
        assert following.startswith(f"next: scontrol show job {job} ")
        return job

    return launch


def steps_saved(folder):
    """Optimiser steps in the last checkpoint of each version of a run."""
    return [torch.load(path)["global_step"] for path in sorted(folder.glob("run/version_*/checkpoints/last.ckpt"))]


def test_a_training_that_is_told_to_stop_requeues_itself_and_one_that_slurm_requeues_waits_for_its_tasks_to_save(
    slurm, submit, play, tmp_path
):
    """Told as SLURM tells its tasks ahead of a time limit, --signal=TERM@180. Both wait for their turn at once."""
    play(
        f"""[[ "$*" == *cues.yaml* ]] || exec {PYTHON} "$@"
[[ ! -e saved ]] || exit 0; trap 'sleep 1; touch saved; exit 143' TERM; touch begun; while true; do sleep 0.1; done""",
    )
    runs = tmp_path / "runs"
    given = arguments(runs, interruption={"kind": "wait", "step": 3})[1:]
    job = submit("fit", *TWO, arguments=[*given, "--save_every_n_steps=1"])
    log = tmp_path / f"job-{job}"
    wait_until(lambda: log.exists() and "waits for a signal" in log.read_text(), log.read_text)  # after its third step
    slurm.ask("scancel", "--signal=TERM", job)
    other = submit("fit", "--gpus=0", arguments=["--config=cues.yaml"])
    wait_until((tmp_path / "begun").exists, (tmp_path / f"job-{other}").read_text)
    slurm.ask("scontrol", "requeue", other)
    [ended] = slurm.wait_for(job, "COMPLETED", "FAILED", log=log)
    assert (ended["JobState"], ended["Restarts"]) == ("COMPLETED", "1"), log.read_text()
    [ended] = slurm.wait_for(other, "COMPLETED", "FAILED")
    assert ended["Restarts"] == "1"
    assert (tmp_path / "saved").exists()
    assert steps_saved(runs) == [4, 12]  # told in the third, which two processes tell each other in the fourth
    assert [line for line in log.read_text().splitlines() if line.startswith("maskrobust: stopped")] == [
        f"maskrobust: stopped by SIGTERM after 4 steps; the state is in '{runs}/run/version_0/checkpoints/last.ckpt'; "
        "call the same command with --ckpt_path last to go on."
    ]


def test_each_task_has_the_cpus_that_it_was_given_and_knows_its_place(slurm, submit, play, tmp_path):
    cpus = "$SLURM_CPUS_PER_TASK $(env -u OMP_NUM_THREADS nproc)"
    play(f'echo "{cpus} $RANK $LOCAL_RANK $WORLD_SIZE" >"said-$SLURM_PROCID"')
    two = submit("fit", *TWO, "--cpus-per-task", "1", arguments=["--config=cues.yaml"])
    slurm.wait_for(two, "COMPLETED")
    said = [(tmp_path / f"said-{task}").read_text() for task in (0, 1)]
    assert said == ["1 1 0 0 2\n", "1 1 1 1 2\n"]


def test_where_one_task_fails_the_others_are_ended_and_the_job_fails(slurm, submit, play, tmp_path):
    play("((RANK == 0)) || exit 7; while true; do sleep 0.1; done")
    job = submit("fit", *TWO, arguments=["--config=cues.yaml"])
    [ended] = slurm.wait_for(job, "FAILED", log=tmp_path / f"job-{job}")
    assert ended["Restarts"] == "0"


def test_a_claim_is_an_array_of_tasks_that_do_the_same(slurm, submit, play, tmp_path):
    given = ["--config=claim_cues.yaml", "--out=my runs"]
    play('echo "$@" >>said')
    job = submit("claim", "--gpus=0", "--cpus-per-task=1", "--array=1-2", arguments=given)
    assert len(slurm.wait_for(job, "COMPLETED")) == 2
    assert (tmp_path / "said").read_text().splitlines() == [f"-m maskrobust claim {' '.join(given)}"] * 2
