"""Ctrl-C and SIGTERM at any time: one line, the signal's exit status, and no process left behind."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from maskrobust.train import cli, masks
from maskrobust.train.data.loading import Loader
from tests.processes import PATIENCE, run_command, started
from tests.train.tiny import tiny_claim

CUES = ["--data=Cues", "--data.image_size=48", "--data.batch_size=4"]


def wait_for(happened):
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.05)


def has_children(process):
    return bool(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())


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


ENDS, GOES_ON = "maskrobust: stopped.", "maskrobust: stopped; call the same command again to go on."


@contextmanager
def default_interrupts():
    """Processes that a shell starts in the background ignore Ctrl-C, and so do those that they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_command_is_stopped_while_it_is_imported(tmp_path):
    """The process is one of Python's own, which imports everything."""
    command = [sys.executable, "-X", "importtime", "-m", "maskrobust", "masks", *CUES, f"--out={tmp_path}"]
    with default_interrupts(), subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if "torch._" in line:
                    break
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    *_, last = said = errors.strip().splitlines()
    assert (process.returncode, last) == (130, ENDS)
    assert "Traceback (most recent call last):" not in said


def test_a_claim_is_stopped_while_it_trains(tmp_path):
    config = tiny_claim("claim_cues.yaml", tmp_path / "claim.yaml", training={"epochs": 1000, "accelerator": "cpu"})
    given = ["claim", f"--config={config}", f"--out={tmp_path / 'out'}", "--data.init_args.num_workers=1"]
    with started(run_command, given, errors=tmp_path / "errors") as process:
        wait_for(lambda: any((tmp_path / "out").rglob("metrics.csv")))
        stop(process, signal.SIGTERM)
    assert (tmp_path / "errors").read_text().splitlines() == [GOES_ON]


def test_shards_are_stopped_while_they_are_written(tmp_path):
    many = ["--data.train_images=600", "--samples_per_shard=2", "--workers=2", "--splits=[train]"]
    given = ["shards", *CUES, *many, f"--out={tmp_path / 'out'}"]
    with started(run_command, given, errors=tmp_path / "errors") as process:
        wait_for(lambda: has_children(process) and any((tmp_path / "out").glob("*.tar")))
        stop(process, signal.SIGINT)
    assert (tmp_path / "errors").read_text().splitlines() == [GOES_ON]


def test_an_evaluation_is_stopped_while_it_measures(tmp_path):
    many = ["--data.train_images=100", "--data.val_images=50", "--data.test_images=800", "--data.num_workers=1"]
    given = ["evaluate", *CUES, *many, "--network=tests.train.networks.Tiny", f"--out={tmp_path / 'out'}"]
    with started(run_command, given, errors=tmp_path / "errors") as process:
        wait_for(lambda: has_children(process))
        stop(process, signal.SIGTERM)
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


def test_a_signal_within_the_start_of_a_loader_waits_until_it_has_started(monkeypatch, capfd):
    start, started = multiprocessing.Process.start, []

    def start_and_signal(process):
        start(process)
        started.append(process)
        if len(started) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(multiprocessing.Process, "start", start_and_signal)
    with pytest.raises(SystemExit) as caught, cli._stopped_by_signals(goes_on=True):
        iter(Loader(range(8), num_workers=2))
    assert caught.value.code == 128 + signal.SIGTERM
    del caught
    gc.collect()  # where a half-made iterator fails
    assert capfd.readouterr().err.splitlines() == [GOES_ON]


def test_what_breaks_because_it_was_stopped_is_no_error(capsys):
    def write():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(PATIENCE)
        except SystemExit as stopped:
            raise RuntimeError("unexpected pos 634624 vs 634512") from stopped

    with pytest.raises(SystemExit) as caught, cli._stopped_by_signals(goes_on=True):
        write()
    assert caught.value.code == 128 + signal.SIGTERM and capsys.readouterr().err.splitlines() == [GOES_ON]
    with pytest.raises(RuntimeError, match="of its own"), cli._stopped_by_signals(goes_on=True):
        raise RuntimeError("of its own")
