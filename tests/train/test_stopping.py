"""Ctrl-C and SIGTERM at any time: one line, the signal's exit status, and no process left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

from maskrobust.lm_modules.architectures import SmallResNet
from tests.train.tiny import tiny_claim

DEADLINE = 120
CUES = ["--data=Cues", "--data.image_size=48", "--data.batch_size=4"]


@pytest.fixture(autouse=True, scope="module")
def _interrupts_are_heard() -> Iterator[None]:
    """Processes that a shell starts in the background ignore Ctrl-C, and so do those that they start."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@contextmanager
def started(*command: str, python: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    """The command in a process group of its own, as a shell starts it."""
    called = [sys.executable, *python, "-m", "maskrobust.train.cli", *command]
    process = subprocess.Popen(called, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, process_group=0)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=DEADLINE)


def wait_for(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not happened():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.05)


def has_children(process: subprocess.Popen[str]) -> bool:
    return bool(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())


def living(group: int) -> list[str]:
    """Processes of a group that have not ended; one that has is there until somebody reaps it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            state, _, its_group = path.read_text().rpartition(") ")[2].split()[:3]
            if int(its_group) == group and state not in "ZX":
                found.append(path.parent.name)
    return found


def stop(process: subprocess.Popen[str], number: signal.Signals) -> list[str]:
    """Signal a process as a terminal does (SIGINT, to its group) or a scheduler (SIGTERM), and read its errors."""
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 128 + number, errors
    wait_for(lambda: not living(process.pid))
    return errors.strip().splitlines()


BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
ENDS, GOES_ON = "maskrobust: stopped.", "maskrobust: stopped; call the same command again to go on."


@BOTH
def test_a_command_is_stopped_while_it_is_imported(number: signal.Signals, tmp_path: Path) -> None:
    with started("masks", *CUES, f"--out={tmp_path}", python=("-X", "importtime")) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "torch._" in line:
                break
        *_, last = said = stop(process, number)
    assert last == ENDS
    assert "Traceback (most recent call last):" not in said


@BOTH
def test_a_claim_is_stopped_while_it_trains(number: signal.Signals, tmp_path: Path) -> None:
    config = tiny_claim("claim_cues.yaml", tmp_path / "claim.yaml", training={"epochs": 1000, "accelerator": "cpu"})
    given = [f"--config={config}", f"--out={tmp_path / 'out'}", "--data.init_args.num_workers=1"]
    with started("claim", *given) as process:
        wait_for(lambda: any((tmp_path / "out").rglob("metrics.csv")))
        assert stop(process, number) == [GOES_ON]


@BOTH
def test_shards_are_stopped_while_they_are_written(number: signal.Signals, tmp_path: Path) -> None:
    many = ["--data.train_images=600", "--samples_per_shard=2", "--workers=2", "--splits=[train]"]
    with started("shards", *CUES, *many, f"--out={tmp_path}") as process:
        wait_for(lambda: has_children(process) and any(tmp_path.glob("*.tar")))
        assert stop(process, number) == [GOES_ON]


@BOTH
def test_an_evaluation_is_stopped_while_it_measures(number: signal.Signals, tmp_path: Path) -> None:
    torch.save(SmallResNet(8, width=16).state_dict(), tmp_path / "weights.pt")
    network = [f"--checkpoint={tmp_path / 'weights.pt'}", "--architecture=small_resnet", "--methods=[black]"]
    with started(
        "evaluate",
        *CUES,
        *network,
        "--architecture_options={width: 16}",
        "--data.num_workers=1",
        *("--data.train_images=100", "--data.val_images=50", "--data.test_images=800"),
        f"--out={tmp_path / 'out'}",
    ) as process:
        wait_for(lambda: has_children(process))
        assert stop(process, number) == [ENDS]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 7), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_fork_of_a_command_leaves_ctrl_c_to_its_parent_and_dies_of_sigterm(
    number: signal.Signals, status: int
) -> None:
    script = (
        "import os, sys; from maskrobust.train import arguments, cli, masks\n"
        "def fork(given):\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        try: os.kill(os.getpid(), int(sys.argv[1])); os._exit(7)\n"
        "        except BaseException: os._exit(8)\n"
        "    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) % 256)\n"
        "masks.main = fork\n"
        "cli.main(['masks'])\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(int(number))], timeout=DEADLINE, check=False)
    assert ended.returncode == status % 256
