"""Two commands in one folder: the second is told who is there, and nobody waits for the dead."""

import errno
import fcntl
import os
import signal
import socket
import time
from contextlib import ExitStack, suppress

import pytest

from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.measurement import Measurement
from maskrobust.train.cli import main
from maskrobust.train.running.lock import locked
from tests.processes import started
from tests.train.evaluate.test_evaluate_processes import DATA
from tests.train.test_cli import sentence_of
from tests.train.tiny import FEW_MEASURES

EVALUATE = ["evaluate", "--network=tests.train.networks.Tiny", *DATA, *FEW_MEASURES, "--methods=[black]"]


def hold(folder, is_there):
    with locked(folder):
        is_there.touch()
        time.sleep(600)


def holder(stack, folder, hold=hold):
    """A process that holds the lock of a folder."""
    is_there = folder.parent / "is_there"
    process = stack.enter_context(started(hold, folder, is_there))
    deadline = time.monotonic() + 60
    while not is_there.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    return process


def test_a_second_evaluation_in_a_folder_is_told_which_process_is_at_work_there(tmp_path, capsys):
    with ExitStack() as stack:
        process = holder(stack, tmp_path / "out")
        sentence = sentence_of([*EVALUATE, f"--out={tmp_path / 'out'}"], capsys)
        assert f"process {process.pid} on {socket.gethostname()} is at work there" in sentence
        assert [path.name for path in (tmp_path / "out").iterdir()] == [".lock"]


def test_a_lock_ends_with_its_process_and_leaves_nothing(tmp_path):
    with ExitStack() as stack:
        process = holder(stack, tmp_path / "out")
        with pytest.raises(InputError, match="at work there"), locked(tmp_path / "out"):
            pytest.fail("has begun")
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    with locked(tmp_path / "out"):
        pass
    assert list((tmp_path / "out").iterdir()) == []


def hold_with_a_child(folder, is_there):
    with locked(folder):
        if os.fork():
            is_there.touch()
        time.sleep(600)


def test_a_child_of_a_killed_process_keeps_nobody_out(tmp_path):
    """A loader process outlives its parent by seconds, and has inherited its open files."""
    with ExitStack() as stack:
        process = holder(stack, tmp_path / "out", hold_with_a_child)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with locked(tmp_path / "out"):
            os.killpg(process.pid, 0)  # the child is there


def count_up(folder, times):
    """Add 1 to the number in a file, which goes wrong where two do it at once."""
    path = folder.parent / "number"
    done = 0
    while done < times:
        with suppress(InputError), locked(folder):
            number = int(path.read_text())
            time.sleep(0.001)
            path.write_text(f"{number + 1}")
            done += 1
        time.sleep(0.001)


def test_of_processes_that_come_and_go_at_once_no_two_are_in_the_folder(tmp_path):
    (tmp_path / "number").write_text("0")
    (tmp_path / "out").mkdir()
    with ExitStack() as stack:
        processes = [stack.enter_context(started(count_up, tmp_path / "out", 30)) for _ in range(3)]
        assert [process.wait() for process in processes] == [0] * 3
    assert (tmp_path / "number").read_text() == "90"


def test_of_two_evaluations_of_one_folder_the_first_ends_well_and_the_second_says_why_it_does_not(
    tmp_path, monkeypatch
):
    command, errors, statuses = [*EVALUATE, f"--out={tmp_path / 'out'}"], tmp_path / "errors", []
    ask = Measurement.ask

    def ask_while_another_is_called(self, batch):
        if not statuses:
            with started(main, command, errors=errors) as second:
                statuses.append(second.wait())
        return ask(self, batch)

    monkeypatch.setattr(Measurement, "ask", ask_while_another_is_called)
    main(command)
    (sentence,) = errors.read_text().splitlines()
    assert statuses == [2] and f"process {os.getpid()} on {socket.gethostname()} is at work there" in sentence
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "reliance.csv",
        "reliance.json",
        "report.html",
    ]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_and_not_in_the_way(number, tmp_path, monkeypatch):
    def without_locks(*_):
        raise OSError(number, os.strerror(number))

    said: list[str] = []
    monkeypatch.setattr(fcntl, "lockf", without_locks)
    monkeypatch.setattr("maskrobust.train.running.lock.rank_zero_info", said.append)
    with locked(tmp_path / "out"):
        (tmp_path / "out" / "result").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["result"]
    assert len(said) == 1 and "file system without locks" in said[0]
