"""The launchers: what torchrun and SLURM are given, what they refuse, and a training on two processes.

What a real SLURM makes of it is in test_launch_slurm.py.
"""

import signal

import pytest
import torch
from torch.distributed import run as torchrun

from maskrobust.train.running import launch
from tests.processes import started
from tests.scripts.test_scripts import CREATE, INSTALL, calls, make_clone, run
from tests.train.running.test_stopping import ENDLESS, wait_for
from tests.train.runs import last
from tests.train.tiny import tiny_fit

DDP = "--trainer.strategy=ddp"
TORCHRUN = "-m maskrobust.train.running.launch"


@pytest.fixture
def clone(tmp_path):
    return make_clone(tmp_path)


def test_a_training_on_one_machine_is_started_by_torchrun_after_the_setup(clone):
    assert run(clone, "launch_multi_gpu", "--nproc", "2", "--", "--config", "pets.yaml").returncode == 0
    began = f"{TORCHRUN} --nproc_per_node=2 --standalone -m maskrobust fit --config pets.yaml"
    assert calls(clone) == [CREATE, INSTALL, f"{began} {DDP} --trainer.devices=2 --trainer.num_nodes=1"]


@pytest.mark.parametrize(
    ("script", "arguments", "shown"),
    [
        ("launch_multi_gpu", "-- --config=x.yaml", ["--nproc_per_node=gpu --standalone", "--trainer.devices=auto"]),
        ("launch_multi_gpu", "evaluate --nproc 2 -- --config x.yaml", ["-m maskrobust evaluate --config x.yaml \n"]),
        ("launch_multi_gpu", "predict --nproc 2 -- --images x", ["-m maskrobust predict --images x \n"]),
        (
            "launch_multi_gpu",
            "--nproc=8 --nnodes=2 --rdzv=first:29500 -- --config=x.yaml",
            [
                "--nnodes=2 --rdzv_backend=c10d --rdzv_endpoint=first:29500",
                "--trainer.devices=8 --trainer.num_nodes=2",
            ],
        ),
        (
            "launch_slurm",
            "fit --nodes 2 --gpus=4 --partition gpu -- --config x.yaml",
            [
                *("--nodes=2 --ntasks-per-node=4 --requeue", "--signal=TERM@180 --gpus-per-node=4 --partition gpu\n"),
                f"/maskrobust fit --config x.yaml {DDP} --trainer.devices=4 --trainer.num_nodes=2 --ckpt_path=auto \n",
            ],
        ),
        (
            "launch_slurm",
            "evaluate --nodes=2 --gpus=0 --ntasks-per-node 3 -- --config x.yaml",
            ["--nodes=2 --ntasks-per-node=3 --requeue", "/maskrobust evaluate --config x.yaml \n"],
        ),
        (
            "launch_slurm",
            "claim --gpus=0 --array=1-8 -- --out runs",
            ["--requeue --array=1-8", "/maskrobust claim --out runs \n"],
        ),
    ],
)
def test_a_dry_run_shows_what_would_be_started_and_installs_nothing(clone, script, arguments, shown):
    options, _, command = arguments.partition("-- ")
    printed = run(clone, script, *options.split(), "--dry_run", "--", *command.split())
    assert printed.returncode == 0 and all(part in printed.stdout for part in shown), printed.stdout
    assert calls(clone) == [] and not (clone / ".venv").exists()


def test_a_submission_says_the_job_of_any_cluster_and_how_to_look_at_it(clone):
    sbatch = clone.parent / "path" / "sbatch"
    sbatch.write_text("#!/usr/bin/env bash\ncat >/dev/null\necho '12;north'\n")
    sbatch.chmod(0o755)
    submitted, following = run(clone, "launch_slurm", "claim", "--", "--out=runs").stdout.splitlines()
    assert submitted == "submitted job 12" and following.startswith("next: scontrol show job 12 -M north ")


@pytest.mark.parametrize(
    ("script", "arguments", "named"),
    [
        ("launch_multi_gpu", ["--nproc=many", "--", "x"], "many"),
        ("launch_multi_gpu", ["claim", "--", "x"], "claim"),
        ("launch_multi_gpu", ["--nnodes=2", "--", "x"], "--rdzv"),
        ("launch_multi_gpu", ["--nproc=2"], "after --"),
        ("launch_slurm", ["train"], "train"),
        ("launch_slurm", ["fit", "--gpus=-1", "--", "x"], "-1"),
        ("launch_slurm", ["fit", "--", "--config=pets.yaml", "--ckpt_path", "last.ckpt"], "leave --ckpt_path out"),
        ("launch_slurm", ["claim", "--nodes=2", "--", "x"], "--nodes"),
        ("launch_slurm", ["fit", "--", "--config=pets.yaml"], "sbatch is missing"),
        ("demo", ["--seed", "two"], "two"),
        ("docs", ["deploy"], "deploy"),
    ],
)
def test_a_script_refuses_in_one_line_before_it_installs_anything(clone, script, arguments, named):
    refused = run(clone, script, *arguments)
    assert refused.returncode in (1, 2)
    assert len(refused.stderr.splitlines()) == 1 and named in refused.stderr
    assert calls(clone) == []


@pytest.mark.parametrize(("given", "seconds"), [(None, 180), ("600", 600)])
def test_torchrun_leaves_processes_three_minutes_to_save_or_as_many_as_it_is_told(monkeypatch, given, seconds):
    monkeypatch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "")
    monkeypatch.delenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT")
    if given is not None:
        monkeypatch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", given)
    begun = []
    monkeypatch.setattr(torchrun, "run", lambda parsed: begun.append(torchrun.config_from_args(parsed)[0]))
    launch.main(["--standalone", "--nproc_per_node=2", "-m", "maskrobust", "fit"])
    assert [config.shutdown_timeout for config in begun] == [seconds]


TWO = ["--standalone", "--nproc_per_node=2", "-m", "maskrobust"]


def test_bad_input_of_two_processes_ends_with_its_status_and_without_a_traceback(tmp_path):
    with started(launch.main, [*TWO, "fits"], errors=tmp_path / "errors") as process:
        assert process.wait() == 2
    said = (tmp_path / "errors").read_text()
    assert "maskrobust: error: maskrobust knows the commands" in said and "Traceback" not in said


def test_two_processes_that_torchrun_starts_train_together_and_keep_their_state_when_they_are_stopped(
    tmp_path, monkeypatch
):
    """Torchrun alone is signalled, as by a scheduler."""
    for name, value in (("OMP_NUM_THREADS", "1"), ("CUDA_VISIBLE_DEVICES", "")):
        monkeypatch.setenv(name, value)
    runs = tmp_path / "runs"
    # On a CPU torch has no synchronised batch norm; tests/lm_modules/training/test_sync_batch_norm.py has ours.
    cpu = ["--trainer.accelerator=cpu", "--trainer.sync_batchnorm=false", "--data.init_args.batch_size=8"]
    given = [*tiny_fit("cues.yaml", runs), "--config=overlays/multi_gpu", *cpu, DDP, "--trainer.devices=2"]
    given += [f"--trainer.max_epochs={ENDLESS}", "--model.objective=consistency", "--ckpt_path=auto"]
    with started(launch.main, [*TWO, "fit", *given], errors=tmp_path / "errors") as process:
        try:
            wait_for(lambda: process.poll() is not None or any(runs.rglob("best.ckpt")))  # it has validated
        finally:
            process.send_signal(signal.SIGTERM)  # which ends its processes, too
            status = process.wait()
        assert status == 128 + signal.SIGTERM, (tmp_path / "errors").read_text()
    said = (tmp_path / "errors").read_text()
    (line,) = (each for each in said.splitlines() if each.startswith("maskrobust: stopped"))
    assert line.startswith("maskrobust: stopped by SIGTERM after ") and "Traceback" not in said
    saved = torch.load(last(runs), weights_only=True)
    assert saved["global_step"] >= 2 and saved["config"]["trainer"]["strategy"] == "ddp"
