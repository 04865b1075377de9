"""The launchers: what torchrun and SLURM are given, what a dry run leaves alone, and a training on two processes.

What a real SLURM makes of it is in test_launch_slurm.py.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.distributed import run as torchrun

from maskrobust.train.running import launch
from tests.processes import fast_python
from tests.scripts.test_scripts import CREATE, INSTALL, calls, make_clone, run
from tests.train.networks import Waiting
from tests.train.runs import last
from tests.train.tiny import tiny_fit

ENDLESS = 10**9  # epochs
DDP = "--trainer.strategy=ddp"


@pytest.fixture
def clone(tmp_path):
    return make_clone(tmp_path)


def test_a_training_on_one_machine_is_started_by_torchrun_after_the_setup(clone):
    assert run(clone, "launch_multi_gpu", "--nproc", "2", "--", "--config", "pets.yaml").returncode == 0
    started = "-m maskrobust.train.running.launch --nproc_per_node=2 --standalone -m maskrobust fit --config pets.yaml"
    assert calls(clone) == [CREATE, INSTALL, f"{started} {DDP} --trainer.devices=2 --trainer.num_nodes=1"]


def test_an_evaluation_on_one_machine_is_started_by_torchrun_and_has_no_trainer(clone):
    given = ["evaluate", "--nproc", "2", "--", "--config", "mine.yaml", "--out=a b"]
    assert run(clone, "launch_multi_gpu", *given).returncode == 0
    started = "-m maskrobust.train.running.launch --nproc_per_node=2 --standalone -m maskrobust evaluate"
    assert calls(clone)[-1] == f"{started} --config mine.yaml --out=a b"


def test_without_a_number_there_is_a_process_for_each_gpu(clone):
    printed = run(clone, "launch_multi_gpu", "--dry_run", "--", "--config=pets.yaml").stdout
    assert "--nproc_per_node=gpu" in printed and "--trainer.devices=auto" in printed


def test_everything_that_needs_a_gpu_is_measured_by_one_script(clone):
    assert run(clone, "bench_gpu", "--batch", "8").returncode == 0
    told = [line.split() for line in calls(clone) if "-m pip" not in line and "venv" not in line.split()]
    bench = [line for line in told if "scripts/benchmarks" in line]
    assert [(line[line.index("--precision") + 1], line[line.index("--compile") + 1]) for line in bench] == [
        (precision, compiles) for compiles in ("false", "true") for precision in ("32", "bf16", "fp16")
    ]
    assert all(line[-2:] == ["--batch", "8"] for line in bench)
    trained, measured = ([line for line in told if command in line] for command in ("fit", "evaluate"))
    for name, compiles in (("eager", "false"), ("compile", "true")):
        (fit,), (evaluate,) = (
            [line for line in lines if any(f"bench_gpu_{name}_" in word for word in line)]
            for lines in (trained, measured)
        )
        assert DDP in fit and fit[fit.index("--compile") + 1] == compiles
        run_name = fit[fit.index("--run_name") + 1]
        assert f"runs/{run_name}/version_0/checkpoints/best.ckpt" in evaluate


def test_machines_meet_at_the_given_port(clone):
    several = ["--nproc=8", "--nnodes=2", "--rdzv=first:29500", "--dry_run"]
    printed = run(clone, "launch_multi_gpu", *several, "--", "--config=pets.yaml").stdout
    assert "--nnodes=2 --rdzv_backend=c10d --rdzv_endpoint=first:29500" in printed
    assert "--trainer.devices=8 --trainer.num_nodes=2" in printed and "standalone" not in printed


@pytest.mark.parametrize(
    ("script", "arguments", "named"),
    [
        ("launch_multi_gpu", ["--config=pets.yaml"], "--config=pets.yaml"),
        ("launch_multi_gpu", ["--nproc=many", "--", "x"], "many"),
        ("launch_multi_gpu", ["evaluate", "--nproc=2"], "maskrobust evaluate"),
        ("launch_multi_gpu", ["claim", "--", "x"], "claim"),
        ("launch_multi_gpu", ["--nproc"], "--nproc"),
        ("launch_multi_gpu", ["--nnodes=2", "--", "x"], "--rdzv"),
        ("launch_multi_gpu", ["--nproc=2"], "after --"),
        ("launch_slurm", [], "nothing"),
        ("launch_slurm", ["train"], "train"),
        ("launch_slurm", ["fit", "--nodes=some", "--", "x"], "some"),
        ("launch_slurm", ["fit", "--gpus=-1", "--", "x"], "-1"),
        ("launch_slurm", ["fit", "--ntasks-per-node=0", "--", "x"], "got '0'"),
        ("launch_slurm", ["fit", "--", "--config=pets.yaml", "--ckpt_path", "last.ckpt"], "leave --ckpt_path out"),
        ("launch_slurm", ["claim", "--nodes=2", "--", "x"], "--nodes"),
        ("launch_slurm", ["claim", "--ntasks-per-node=2", "--", "x"], "--ntasks-per-node"),
        ("launch_slurm", ["fit"], "after --"),
    ],
)
def test_a_launcher_refuses_in_one_line_before_it_installs_anything(clone, script, arguments, named):
    refused = run(clone, script, *arguments)
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1 and named in refused.stderr
    assert calls(clone) == []


def test_without_slurm_nothing_is_installed(clone):
    refused = run(clone, "launch_slurm", "fit", "--", "--config=pets.yaml")
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
    assert "sbatch is missing" in refused.stderr
    assert calls(clone) == []


@pytest.mark.parametrize(
    ("script", "arguments"), [("launch_multi_gpu", []), ("launch_slurm", ["fit"]), ("launch_slurm", ["claim"])]
)
def test_a_dry_run_and_help_install_and_submit_nothing(clone, script, arguments):
    shown, told = (
        run(clone, script, *arguments, option, "--", "--config=pets.yaml") for option in ("--dry_run", "--help")
    )
    assert (told.returncode, bool(told.stdout)) == (0, True)
    assert (shown.returncode, bool(shown.stdout)) == (0, True)
    assert calls(clone) == [] and not (clone / ".venv").exists()


def test_a_fit_on_slurm_asks_for_a_task_for_each_gpu_and_resumes(clone):
    options = ["--nodes", "2", "--gpus=4", "--partition", "gpu", "--dry_run"]
    shown = run(clone, "launch_slurm", "fit", *options, "--", "--config", "my pets.yaml").stdout
    asked = shown.partition("\n")[0].split()
    assert {"--nodes=2", "--ntasks-per-node=4", "--gpus-per-node=4", "--requeue", "--signal=TERM@180"} < {*asked}
    assert asked[-3:] == ["--gpus-per-node=4", "--partition", "gpu"]  # those of the user last, where they win
    trainer = f"{DDP} --trainer.devices=4 --trainer.num_nodes=2"
    assert f"/maskrobust fit --config my\\ pets.yaml {trainer} --ckpt_path=auto \n" in shown


def test_an_evaluation_on_slurm_asks_for_the_tasks_that_it_is_told_to(clone):
    options = ["--nodes=2", "--gpus=0", "--ntasks-per-node", "3", "--dry_run"]
    shown = run(clone, "launch_slurm", "evaluate", *options, "--", "--config", "my x.yaml").stdout
    asked = shown.partition("\n")[0].split()
    assert {"--nodes=2", "--ntasks-per-node=3", "--requeue"} < {*asked} and "gpus" not in shown
    assert "/maskrobust evaluate --config my\\ x.yaml \n" in shown


def test_a_claim_on_slurm_is_an_array_of_equal_tasks(clone):
    shown = run(clone, "launch_slurm", "claim", "--gpus=0", "--array=1-8", "--dry_run", "--", "--out", "my runs").stdout
    asked = shown.partition("\n")[0].split()
    assert {"--array=1-8", "--requeue"} < {*asked} and "/maskrobust claim --out my\\ runs \n" in shown


@pytest.mark.parametrize(("given", "seconds"), [(None, 180), ("600", 600)])
def test_torchrun_leaves_processes_three_minutes_to_save_or_as_many_as_it_is_told(monkeypatch, given, seconds):
    monkeypatch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "")
    monkeypatch.delenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT")
    if given is not None:
        monkeypatch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", given)
    started = []
    monkeypatch.setattr(torchrun, "run", lambda parsed: started.append(torchrun.config_from_args(parsed)[0]))
    launch.main(["--standalone", "--nproc_per_node=2", "-m", "maskrobust", "fit"])
    assert [config.shutdown_timeout for config in started] == [seconds]


@pytest.fixture
def real(clone):
    """A clone whose .venv runs this Python, without GPUs, and the environment for it."""
    run(clone, "demo")  # which makes .venv of stand-ins
    with fast_python() as fast:
        python = clone / ".venv" / "bin" / "python"
        python.write_text(f'#!/usr/bin/env bash\n[[ $1 != -m ]] || exec {fast} "$@"\nexec {sys.executable} "$@"\n')
        yield {**os.environ, "PYTHON_EXEC": str(fast), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def fit_on_two(clone, folder, *options):
    """A training on two processes of the CPU."""
    # On a CPU torch has no synchronised batch norm; tests/lm_modules/training/test_sync_batch_norm.py has ours.
    cpu = ["--trainer.accelerator=cpu", "--trainer.sync_batchnorm=false", "--data.init_args.batch_size=8"]
    fit = [*tiny_fit("cues.yaml", folder), "--config=overlays/multi_gpu", *cpu]  # again, after the overlay
    return [clone / "scripts" / "launch_multi_gpu", "--nproc=2", "--", *fit, *options]


def test_without_a_gpu_a_process_for_each_is_refused_in_one_sentence(clone, real):
    command = [clone / "scripts" / "launch_multi_gpu", "--", "--config=cues.yaml"]
    refused = subprocess.run(command, capture_output=True, env=real, text=True, check=False, timeout=100)
    assert refused.returncode == 2
    assert refused.stderr.splitlines() == [
        "scripts/launch_multi_gpu needs a GPU for each process, and torch finds none here; to compute on the CPU, give "
        "--nproc N before --, and to train also --trainer.accelerator cpu after it."
    ]


def test_bad_input_of_a_training_on_two_processes_is_told_without_a_traceback(clone, real, tmp_path):
    command = fit_on_two(clone, tmp_path / "runs", "--modle.masking=none")  # found before anything is imported
    refused = subprocess.run(command, capture_output=True, env=real, text=True, check=False, timeout=200)
    assert refused.returncode == 2, refused.stderr
    assert "maskrobust: error: unrecognized arguments: --modle.masking" in refused.stderr
    assert "Traceback" not in refused.stderr


def stopped(command, environment, number, has_begun):
    """What two processes that torchrun starts say when they are stopped once something has happened.

    Ctrl-C reaches all processes of the terminal, SIGTERM torchrun alone.
    """
    options = {"stderr": subprocess.PIPE, "env": environment, "text": True, "process_group": 0}
    with subprocess.Popen(command, **options) as started:
        try:
            deadline = time.monotonic() + 200
            while not has_begun():
                assert started.poll() is None and time.monotonic() < deadline, "it does not begin"
                time.sleep(0.05)
            (os.killpg if number == signal.SIGINT else os.kill)(started.pid, number)
            _, said = started.communicate(timeout=100)
        finally:
            started.terminate()  # and it ends its processes
    assert started.returncode == 128 + number and "Traceback" not in said, said
    return [line for line in said.splitlines() if line.startswith("maskrobust: stopped")]


def test_two_processes_that_torchrun_starts_train_together_and_keep_their_state_when_they_are_stopped(
    clone, real, tmp_path
):
    runs = tmp_path / "runs"
    long = [f"--trainer.max_epochs={ENDLESS}", "--model.objective=consistency", "--ckpt_path=auto"]
    command = fit_on_two(clone, runs, *long)
    (said,) = stopped(command, real, signal.SIGTERM, lambda: any(runs.rglob("best.ckpt")))  # it has validated
    assert said.startswith("maskrobust: stopped by SIGTERM after ")
    saved = torch.load(last(runs), weights_only=True)
    assert saved["global_step"] >= 2 and saved["config"]["trainer"]["strategy"] == "ddp"


def test_an_evaluation_on_two_processes_is_stopped(clone, real, tmp_path):
    sizes = {"image_size": 48, "batch_size": 4, "test_images": 32, "train_images": 32, "val_images": 32}
    data = ["--data=Cues", *(f"--data.{name}={value}" for name, value in sizes.items())]
    torch.save(Waiting().state_dict(), tmp_path / "weights.pt")
    given = [
        *data,
        f"--network=tests.train.networks.Waiting:{tmp_path / 'weights.pt'}",
        "--methods=[black]",
        "--plan.patch_size=8",
    ]
    out = tmp_path / "out"
    command = [clone / "scripts" / "launch_multi_gpu", "evaluate", "--nproc=2", "--", *given, f"--out={out}"]
    asked = [tmp_path / f"{rank}" for rank in range(2)]
    said = stopped(command, {**real, "ASKED": str(tmp_path)}, signal.SIGINT, lambda: all(map(Path.exists, asked)))
    assert said == ["maskrobust: stopped."]
