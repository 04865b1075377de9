"""scripts/launch_slurm on a real SLURM of one node: jobs that are stopped resume, an array that fails, two tasks."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from maskrobust.lm_modules.networks.architectures import build_network
from tests.scripts.slurm import Slurm, running_slurm, wait_until
from tests.scripts.test_scripts import ROOT, make_clone, run
from tests.train.fit.test_resume import arguments, assert_ends_the_same
from tests.train.runs import last, run as run_process

TWO = ("--gpus=0", "--ntasks-per-node=2")


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    with running_slurm() as slurm:
        yield slurm


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone whose command is this Python's."""
    clone = make_clone(tmp_path)
    run(clone, "demo")  # which makes .venv of stand-ins
    play(clone, f'exec {sys.executable} -m maskrobust "$@"')
    (clone / ".venv" / "bin" / "python").write_text(f'#!/usr/bin/env bash\nexec {sys.executable} "$@"\n')
    return clone


def play(clone: Path, script: str) -> None:
    """Have the command `maskrobust` of a clone do something else."""
    (clone / ".venv" / "bin" / "maskrobust").write_text(f"#!/usr/bin/env bash\n{script}\n")


def launch(slurm: Slurm, clone: Path, kind: str, *options: str, arguments: list[str]) -> str:
    """Submit; the job's number. What it says lies in the file job-NUMBER beside the clone."""
    computed = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [clone / "scripts" / "launch_slurm", kind, *options, "--output=job-%j", "--", *arguments]
    launched = subprocess.run(
        command,
        cwd=clone.parent,
        env={**slurm.environment, **computed},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert launched.returncode == 0, launched.stderr
    return launched.stdout.split()[-1]


def steps_saved(folder: Path) -> list[int]:
    """Optimiser steps in the last checkpoint of each version of a run."""
    return [torch.load(path)["global_step"] for path in sorted(folder.rglob("last.ckpt"))]


@pytest.mark.timeout(900)  # three times two processes start, and SLURM looks at time limits twice a minute
def test_a_training_that_is_requeued_and_meets_its_time_limit_ends_with_the_weights_of_one_that_was_not(
    slurm: Slurm, clone: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    given = arguments(runs, interruption={"kind": "wait", "step": 3})[1:]
    waits = ["--trainer.callbacks+=tests.train.interruptions.Interruption"]
    waits += ["--trainer.callbacks.kind=wait", "--trainer.callbacks.step=9", "--save_every_n_steps=1"]
    job = launch(slurm, clone, "fit", *TWO, "--time=30", arguments=[*given, *waits])
    log = tmp_path / f"job-{job}"

    def wait_for_steps(*steps: int) -> None:
        wait_until(
            lambda: steps_saved(runs) == list(steps), lambda: f"{steps_saved(runs)} {slurm.job(job)}\n{log.read_text()}"
        )

    wait_for_steps(2)  # it waits in the third, before that is saved
    slurm.ask("scontrol", "requeue", job)
    wait_for_steps(3, 8)
    hours, minutes, _ = slurm.job(job)["RunTime"].split(":")
    limit = 60 * int(hours) + int(minutes) + 2  # it is told three minutes ahead
    slurm.ask("scontrol", "update", f"JobId={job}", f"TimeLimit={limit}")
    wait_until(lambda: slurm.job(job)["Restarts"] == "2", log.read_text)
    slurm.ask("scontrol", "update", f"JobId={job}", "TimeLimit=30")
    assert slurm.wait_for(job, "COMPLETED", "FAILED", "TIMEOUT", log=log)["JobState"] == "COMPLETED", log.read_text()

    assert steps_saved(runs) == [3, 9, 12]
    assert [line for line in log.read_text().splitlines() if line.startswith("maskrobust: stopped")] == [
        f"maskrobust: stopped by SIGTERM after {steps} steps; the state is in "
        f"'{runs}/run/version_{version}/checkpoints/last.ckpt'; call the same command with --ckpt_path last to go on."
        for version, steps in enumerate((3, 9))
    ]
    run_process(arguments(tmp_path / "whole", "--trainer.devices=2", "--trainer.strategy=ddp"))
    assert_ends_the_same(runs, torch.load(last(tmp_path / "whole")))


def test_a_job_that_is_stopped_before_anything_is_saved_is_not_put_back_into_the_queue(
    slurm: Slurm, clone: Path, tmp_path: Path
) -> None:
    play(clone, "trap 'exit 143' TERM; touch started; while true; do sleep 0.1; done")
    job = launch(slurm, clone, "fit", "--gpus=0", arguments=["--config=cues.yaml"])
    log = tmp_path / f"job-{job}"
    wait_until((tmp_path / "started").exists, log.read_text)
    slurm.ask("scancel", "--signal=TERM", job)
    ended = slurm.wait_for(job, "FAILED", log=log)
    assert (ended["Restarts"], ended["ExitCode"]) == ("0", "143:0")
    assert log.read_text().splitlines()[-1] == (
        "Told to stop before anything was saved, so the job is not put back into the queue; submit it with a longer "
        "--time."
    )


@pytest.mark.parametrize("inherits", [True, False], ids=["from 23.11 on", "22.05 to 23.02"])
def test_each_task_has_the_cpus_that_it_was_given_and_knows_its_place(
    slurm: Slurm, clone: Path, tmp_path: Path, inherits: bool
) -> None:
    """The `srun` of SLURM 22.05 to 23.02 does not inherit --cpus-per-task, whose variables this one is not shown."""
    if not inherits:
        srun = tmp_path / "srun"
        srun.write_text(
            f'#!/usr/bin/env bash\nexec env -u SLURM_CPUS_PER_TASK -u SLURM_TRES_PER_TASK {shutil.which("srun")} "$@"\n'
        )
        srun.chmod(0o755)
        slurm = Slurm({**slurm.environment, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    cpus = "$SLURM_CPUS_PER_TASK $(env -u OMP_NUM_THREADS nproc)"
    play(clone, f'echo "{cpus} $RANK $LOCAL_RANK $WORLD_SIZE" >"said-$SLURM_PROCID"')
    one = launch(slurm, clone, "fit", "--gpus=0", "--cpus-per-task=2", arguments=["--config=cues.yaml"])
    slurm.wait_for(one, "COMPLETED")
    assert (tmp_path / "said-0").read_text() == "2 2 0 0 1\n"
    two = launch(slurm, clone, "fit", *TWO, "--cpus-per-task", "1", arguments=["--config=cues.yaml"])
    slurm.wait_for(two, "COMPLETED")
    said = [(tmp_path / f"said-{task}").read_text() for task in (0, 1)]
    assert said == ["1 1 0 0 2\n", "1 1 1 1 2\n"]


def test_where_one_task_fails_the_others_are_ended_and_the_job_fails(slurm: Slurm, clone: Path, tmp_path: Path) -> None:
    play(clone, "((RANK == 0)) || exit 7; while true; do sleep 0.1; done")
    job = launch(slurm, clone, "fit", *TWO, arguments=["--config=cues.yaml"])
    assert slurm.wait_for(job, "FAILED", log=tmp_path / f"job-{job}")["Restarts"] == "0"


def test_a_claim_one_task_of_which_fails_is_collected_once_it_is_submitted_again(
    slurm: Slurm, clone: Path, tmp_path: Path
) -> None:
    given = ["--config=claim_cues.yaml", "--out=my runs"]
    play(
        clone,
        """echo "$@" >>said
case "$*" in
    *--list) printf '%s\\n' '--arm=[no_masks,mcal] --seed=1' '--arm=[patches] --seed=1' ;;
    *patches*) [[ -e fails ]] || { touch fails && exit 3; } ;;
esac""",
    )
    collect = launch(slurm, clone, "claim", "--gpus=0", "--cpus-per-task=1", arguments=given)
    assert slurm.wait_for(collect, "CANCELLED")["Reason"] == "DependencyNeverSatisfied"
    said = (tmp_path / "said").read_text().splitlines()
    started = ["--list", "--arm=[no_masks,mcal] --seed=1", "--arm=[patches] --seed=1"]
    assert sorted(said) == sorted(f"claim {' '.join(given)} {each}" for each in started)
    collect = launch(slurm, clone, "claim", "--gpus=0", "--cpus-per-task=1", arguments=given)
    slurm.wait_for(collect, "COMPLETED")
    again = (tmp_path / "said").read_text().splitlines()[len(said) :]
    assert sorted(again) == sorted(f"claim {' '.join(given)} {each}" for each in [*started, "--collect"])


def test_an_evaluation_of_two_tasks_finds_what_one_process_finds(slurm: Slurm, clone: Path, tmp_path: Path) -> None:
    data = ["--data=Cues", "--data.image_size=48", "--data.batch_size=4", "--data.train_images=32"]
    data += ["--data.val_images=32", "--data.test_images=32", "--methods=[black]", "--patch_size=8", "--scenes=0"]
    few = ["--features=false", "--curve_families=[]", "--transfer_families=[]", "--replicates=20", "--device=cpu"]
    torch.manual_seed(0)
    torch.save(build_network("small_resnet", 8, {"width": 16}).state_dict(), tmp_path / "weights.pt")
    given = [f"--network=small_resnet:{tmp_path / 'weights.pt'}", *data, *few]
    job = launch(slurm, clone, "evaluate", *TWO, arguments=[*given, "--out=two"])
    log = tmp_path / f"job-{job}"
    slurm.wait_for(job, "COMPLETED", log=log)
    assert log.read_text().count("report:") == 1
    run_process(["evaluate", *given, f"--out={tmp_path / 'one'}"])
    two, one = (json.loads((tmp_path / name / "reliance.json").read_text())["rows"] for name in ("two", "one"))
    assert two == one
