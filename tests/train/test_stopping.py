"""Stopping at any time, what a run says of its progress, and the devices it takes."""

import io
import os
import platform
import re
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from lightning_fabric.accelerators import MPSAccelerator
from rich.console import Console

from maskrobust.errors import InputError
from maskrobust.lm_modules.networks.architectures import build_network
from maskrobust.train import cli, masks
from maskrobust.train.cli import main
from maskrobust.train.fit.checkpoints import AtomicCheckpointIO
from maskrobust.train.running import progress as module
from maskrobust.train.running.processes import find_device
from maskrobust.train.running.progress import CountingDisplay, stage
from tests.processes import PATIENCE, run_command, started
from tests.train.test_cli import sentence_of
from tests.train.tiny import tiny_claim, tiny_fit

ENDLESS = 10**9  # epochs
CUES = ["--data=Cues", "--data.image_size=48", "--data.batch_size=4"]


def wait_for(happened):
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.05)


def living(group):
    """Processes of a group that have not ended; one that has is there until somebody reaps it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            state, _, its_group = path.read_text().rpartition(") ")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                found.append(path.parent.name)
    return found


def stop(process, number):
    """Signal a process as a terminal does (SIGINT, to its group) or a scheduler (SIGTERM); nothing of it is left."""
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    assert process.wait() == 128 + number
    wait_for(lambda: not living(process.pid))


GOES_ON = "maskrobust: stopped; call the same command again to go on."


def test_a_claim_is_stopped_while_it_trains(tmp_path):
    config = tiny_claim("claim_cues.yaml", tmp_path / "claim.yaml", training={"epochs": ENDLESS, "accelerator": "cpu"})
    given = ["claim", f"--config={config}", f"--out={tmp_path / 'out'}", "--data.init_args.num_workers=1"]
    with started(run_command, given, errors=tmp_path / "errors") as process:
        wait_for(lambda: any((tmp_path / "out").rglob("metrics.csv")))
        stop(process, signal.SIGTERM)
    assert (tmp_path / "errors").read_text().splitlines() == [GOES_ON]


def save_and_be_stopped(folder):
    writer = torch._C.PyTorchFileWriter

    def begin(*given):
        begun = writer(*given)
        os.kill(os.getpid(), signal.SIGTERM)
        return begun

    torch._C.PyTorchFileWriter = begin  # type: ignore[assignment, misc]
    with cli._stopped_by_signals(goes_on=True):
        AtomicCheckpointIO().save_checkpoint({"weights": torch.zeros(10**5)}, folder / "last.ckpt")


def test_a_process_is_stopped_while_it_saves(tmp_path):
    with started(save_and_be_stopped, tmp_path, errors=tmp_path / "errors") as process:
        assert process.wait() == 128 + signal.SIGTERM
    assert (tmp_path / "errors").read_text().splitlines() == [GOES_ON]


def fork_within_a_command(number):
    """Signal a fork of a command; 7 where it goes on, and 8 where it handles the signal as the command would."""

    def fork(_given):
        child = os.fork()
        if not child:
            try:
                os.kill(os.getpid(), number)
                os._exit(7)
            except BaseException:
                os._exit(8)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) % 256)

    masks.main = fork
    cli.main(["masks"])


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 7), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_fork_of_a_command_leaves_ctrl_c_to_its_parent_and_dies_of_sigterm(number, status):
    with started(fork_within_a_command, number) as process:
        assert process.wait() == status % 256


def display(**options):
    written = io.StringIO()
    return CountingDisplay(Console(file=written, width=20, **options)), written


@pytest.fixture
def fast(monkeypatch):
    """Lines at each look, the first of which comes with the first estimate."""
    monkeypatch.setattr(module, "_SECONDS_A_LOOK", 0.01)
    monkeypatch.setattr(module, "SECONDS_A_LINE", 0.1)


def test_without_a_terminal_lines_say_what_is_done_and_what_is_left(fast):
    progress, written = display()
    with progress:
        task = progress.add_task("asking about images", total=400, completed=3)
        wait_for(lambda: re.search(r"asking about images: 3 of 400, \d+ s so far\n", written.getvalue()))
        progress.advance(task)
        time.sleep(0.01)
        progress.advance(task)
        wait_for(lambda: "asking about images: 5 of 400, about" in written.getvalue())
        with stage(progress, "computing [bold] intervals"):
            wait_for(lambda: re.search(r"left; computing \[bold\] intervals: \d+ s so far\n", written.getvalue()))
    assert written.getvalue().endswith("\n") and "\x1b" not in written.getvalue()


def test_what_is_tracked_counts_without_a_terminal(fast):
    progress, _ = display()
    with progress:
        for number, _ in enumerate(progress.track(range(4)), start=1):
            time.sleep(0.12)  # longer than the look of the thread that counts on a terminal
            assert progress.tasks[0].completed == number - 1
        assert progress.tasks[0].completed == 4


@pytest.fixture
def apple(monkeypatch):
    """What torch and Lightning see on a Mac; a tensor that goes to its GPU is an error here, as there is none."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    monkeypatch.setattr(torch.mps, "manual_seed", lambda _: None)
    MPSAccelerator.is_available.cache_clear()
    assert pl.Trainer(logger=False, enable_checkpointing=False).strategy.root_device.type == "mps"
    yield
    MPSAccelerator.is_available.cache_clear()


def arguments_of(folder, accelerator):
    torch.save(build_network("small_resnet", 8, {"width": 16}).state_dict(), folder / "weights.pt")
    weights = f"--model.weights={folder / 'weights.pt'}"
    return ["fit", *tiny_fit("cues.yaml", folder), f"--trainer.accelerator={accelerator}", weights]


def test_auto_is_the_cpu_and_said(apple, tmp_path, capsys):
    main(arguments_of(tmp_path, "auto"))
    assert "computing on the CPU: Apple's GPUs lack float64, in which holes are drawn.\n" in capsys.readouterr().out


def test_a_trainer_that_is_told_to_take_the_gpu_is_refused_in_one_sentence(apple, tmp_path, capsys):
    assert sentence_of(arguments_of(tmp_path, "gpu"), capsys).endswith("give it accelerator cpu.")


def test_no_command_computes_on_it(apple, monkeypatch):
    assert find_device(None).type == "cpu" or torch.cuda.is_available()
    monkeypatch.setattr(torch, "empty", lambda *_, **__: None)  # which the GPU would give
    with pytest.raises(InputError, match=r"must have float64, .* got 'mps'; leave it out, or choose cpu"):
        find_device("mps")
