"""The launchers: what torchrun and SLURM are given, what they refuse, and a training on two processes.

What a real SLURM makes of it is in test_submit.py.
"""

import os
import shlex
import signal
import sys

import pytest
import torch
from torch.distributed import run as torchrun

from maskrobust.errors import InputError
from maskrobust.train.cli import main
from maskrobust.train.commands import launch, submit
from maskrobust.train.running import processes
from tests.conftest import refused
from tests.processes import started
from tests.scripts.test_scripts import CREATE, INSTALL, calls, make_clone, run
from tests.train.runs import last
from tests.train.test_stopping import ENDLESS, wait_for
from tests.train.tiny import tiny_fit


@pytest.fixture
def clone(tmp_path):
    return make_clone(tmp_path)


@pytest.mark.parametrize(("script", "launcher"), [("launch_multi_gpu", "launch"), ("launch_slurm", "submit")])
def test_the_scripts_launch_from_the_environment_of_the_clone(script, launcher, clone):
    assert run(clone, script, "fit", "--nproc", "2", "--", "--config", "pets.yaml").returncode == 0
    assert calls(clone) == [CREATE, INSTALL, f"{launcher} fit --nproc 2 -- --config pets.yaml"]


TRAINER = "--trainer.devices={} --trainer.num_nodes={}"


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (
            "launch fit -- --seed_everything 1",
            ["--nproc_per_node=gpu --standalone", f" 1 {TRAINER.format('auto', 1)}\n"],
        ),
        ("launch evaluate --nproc 2 -- --out x", ["--nproc_per_node=2 ", "-m maskrobust evaluate --out x\n"]),
        ("launch predict --nproc 2 -- --images x", ["-m maskrobust predict --images x\n"]),
        (
            "launch pretrain --nproc=8 --nnodes=2 --rdzv=first:29500 -- --run_name x",
            [
                "--nnodes=2 --rdzv_backend=c10d --rdzv_endpoint=first:29500 --rdzv_id=",
                f"-m maskrobust pretrain --run_name x {TRAINER.format(8, 2)}\n",
            ],
        ),
        (
            "submit fit --nodes 2 --gpus=4 --partition gpu -- --run_name x",
            [
                *("--nodes=2 --ntasks-per-node=4 --open-mode", "--signal=TERM@180 --gpus-per-node=4 --partition gpu\n"),
                f"-m maskrobust fit --run_name x {TRAINER.format(4, 2)} --ckpt_path=auto\n",
            ],
        ),
        (
            "submit evaluate --nodes=2 --gpus=0 --ntasks-per-node 3 -- --out x",
            [
                "--nodes=2 --ntasks-per-node=3 --open-mode=append --signal=TERM@180\n",
                "-m maskrobust evaluate --out x\n",
            ],
        ),
        (
            "submit claim --gpus=0 --array=1-8 -- --out runs",
            ["--requeue --array=1-8\n", "-m maskrobust claim --out runs\n"],
        ),
    ],
)
def test_a_dry_run_shows_what_the_python_that_runs_it_would_start(arguments, shown, capsys):
    options, _, command = arguments.partition("-- ")
    main([*options.split(), "--dry_run", "--", *command.split()])
    said = capsys.readouterr().out
    assert all(part in said for part in [*shown, shlex.quote(sys.executable)]), said


def test_a_submission_says_the_job_of_any_cluster_and_how_to_look_at_it(tmp_path, monkeypatch, capsys):
    (tmp_path / "sbatch").write_text("#!/usr/bin/env bash\ncat >/dev/null\necho '12;north'\n")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    main(["submit", "claim", "--", "--out=runs"])
    submitted, following = capsys.readouterr().out.splitlines()
    assert submitted == "submitted job 12" and following.startswith("next: scontrol show job 12 -M north ")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("launch fit --nproc=many -- x", "many"),
        ("launch claim -- x", "invalid choice: 'claim'"),
        ("launch fit --nnodes=2 -- x", "--rdzv"),
        ("launch fit --config x.yaml", "arguments must follow --, got: --config"),
        ("launch fit --nproc gpu -- x", "give --nproc N before --"),
        ("submit train", "invalid choice: 'train'"),
        ("submit fit --gpus=-1 -- x", "-1"),
        ("submit fit -- --run_name x --ckpt_path last.ckpt", "leave --ckpt_path out"),
        ("submit claim --nodes=2 -- x", "--nodes"),
        ("submit fit -- --run_name x", "sbatch is missing"),
    ],
)
def test_what_cannot_be_launched_is_refused_in_one_sentence(arguments, named, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    launcher, *given = arguments.split()
    with refused(InputError, named):
        {"launch": launch, "submit": submit}[launcher].main([launcher, *given])


@pytest.mark.parametrize(("script", "arguments"), [("demo", ["--seed", "two"]), ("docs", ["deploy"])])
def test_a_script_refuses_in_one_line_before_it_installs_anything(clone, script, arguments):
    answered = run(clone, script, *arguments)
    assert answered.returncode in (1, 2)
    assert len(answered.stderr.splitlines()) == 1 and arguments[-1] in answered.stderr
    assert calls(clone) == []


@pytest.mark.parametrize(("given", "threads"), [(None, "6"), ("3", "3")])
def test_processes_divide_the_cores_among_them_or_have_as_many_threads_as_they_are_told(monkeypatch, given, threads):
    """By itself torchrun gives each process one thread, by which evaluation fills holes on a CPU."""
    monkeypatch.setenv("OMP_NUM_THREADS", given or "")
    if given is None:
        monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(processes, "number_of_cores", lambda: 13)
    begun = []
    monkeypatch.setattr(torchrun, "run", lambda _: begun.append(os.environ["OMP_NUM_THREADS"]))
    launch.main(["launch", "evaluate", "--nproc=2"])
    assert begun == [threads]


@pytest.mark.parametrize(("given", "seconds"), [(None, 180), ("600", 600)])
def test_torchrun_leaves_processes_three_minutes_to_save_or_as_many_as_it_is_told(monkeypatch, given, seconds):
    monkeypatch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "")
    monkeypatch.delenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT")
    if given is not None:
        monkeypatch.setenv("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", given)
    begun = []
    monkeypatch.setattr(torchrun, "run", lambda parsed: begun.append(torchrun.config_from_args(parsed)[0]))
    launch.main(["launch", "fit", "--nproc=2"])
    assert [config.shutdown_timeout for config in begun] == [seconds]


TWO = ["launch", "fit", "--nproc=2", "--"]


def test_bad_input_of_two_processes_ends_with_its_status_and_without_a_traceback(tmp_path):
    """Of a command that finds it before it imports Lightning, for seconds in each process."""
    given = ["launch", "predict", "--nproc=2", "--", "--top=two"]
    with started(main, given, errors=tmp_path / "errors") as process:
        assert process.wait() == 2
    said = (tmp_path / "errors").read_text()
    assert "maskrobust: error: " in said and "two" in said and "Traceback" not in said


def test_two_processes_that_torchrun_starts_train_together_and_keep_their_state_when_they_are_stopped(
    tmp_path, monkeypatch
):
    """Torchrun alone is signalled, as by a scheduler."""
    for name, value in (("OMP_NUM_THREADS", "1"), ("CUDA_VISIBLE_DEVICES", "")):
        monkeypatch.setenv(name, value)
    runs = tmp_path / "runs"
    # On a CPU torch has no synchronised batch norm; tests/lm_modules/training/test_sync_batch_norm.py has ours.
    cpu = ["--trainer.accelerator=cpu", "--trainer.sync_batchnorm=false", "--data.init_args.batch_size=8"]
    given = [*tiny_fit("cues.yaml", runs), "--config=overlays/multi_gpu", *cpu]
    given += [f"--trainer.max_epochs={ENDLESS}", "--model.objective=consistency", "--ckpt_path=auto"]
    with started(main, [*TWO, *given], errors=tmp_path / "errors") as process:
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
