"""Processes that start at once: forks of a server, itself a fork of pytest that has imported all and computed nothing.

A fork is a process like any other, with an id, a process group, signals and an exit status of its own; it is spared the
seconds that importing torch and Lightning takes. `python -m maskrobust` itself is started where its imports
are the subject (tests/train/test_stopping.py).
"""

import atexit
import gc
import importlib
import logging
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from multiprocessing import forkserver, resource_tracker, util
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import _utils

IMPORTED = [
    *("albumentations", "attrs", "docstring_parser", "fsspec.implementations.chained", "PIL.JpegImagePlugin", "pytest"),
    "skimage.segmentation.slic_superpixels",
    *(f"sklearn.{name}" for name in ("discriminant_analysis", "linear_model", "neighbors", "neural_network")),
    *("torch.distributed.run", "torch.distributed.algorithms.ddp_comm_hooks", "torch.utils.serialization.config"),
    *(f"maskrobust.train.{name}" for name in ("cli", "data", "evaluate", "claim", "explain", "fit.command", "masks")),
    *(f"maskrobust.train.evaluate.{name}" for name in ("measure", "summary")),
]
"""What commands import, where the collected tests have not imported it already."""
PATIENCE = 120
NOWHERE = Path(os.devnull)
_CAPTURED = sys.stdout.fileno(), sys.stderr.fileno()
"""Where pytest keeps what is written by those who take note of standard output or error when they are imported."""

_SERVED = multiprocessing.get_context("forkserver")
_SERVED.set_forkserver_preload(IMPORTED)


def end_loaders_soon() -> None:
    """Wait shorter than torch's 5 s for the processes of a loader that broke off, and end them then.

    Where Python's collector of garbage finds such a loader it has closed the queue that tells them to end.
    """
    _utils.MP_STATUS_CHECK_INTERVAL = 0.5


def fork_server() -> None:
    """Start the server as a fork of this process, which saves it the seconds of all imports.

    To be called when all tests are imported, and before anything starts a thread, which a fork does not have.
    """
    resource_tracker.ensure_running()  # a process of its own, which the server's start would fork, too
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(util, "spawnv_passfds", _fork_instead)
        forkserver.ensure_running()


def _fork_instead(_path: object, arguments: Sequence[str], kept: Sequence[int]) -> int:
    """Run the last argument, code for a new Python, in a fork with these open files, once a file can be read."""
    process = os.fork()
    if process:
        return process
    try:
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        logging.root.handlers[:] = [logging.StreamHandler()]  # in place of pytest's, which keep all
        nothing = os.open(NOWHERE, os.O_RDWR)
        for number in {int(name) for name in os.listdir("/proc/self/fd")} - {0, 1, 2, *_CAPTURED, *kept, nothing}:
            os.dup2(nothing, number)  # not closed: what still holds the number would close another file some day
        atexit._clear()  # pytest's own
        importlib.reload(warnings)  # without the filters of pytest, which records all
        gc.enable()
        listener, alive = kept
        if alive not in select.select([listener, alive], [], [])[0]:  # else pytest has ended
            exec(arguments[-1])
    finally:
        os._exit(0)


def _stop_server() -> None:
    """Wait for it, too, so that its seconds are counted with those of pytest.

    It goes on for as long as any process holds its pipe, as a loader process does whose loader nobody has collected.
    """
    for left in multiprocessing.active_children():
        left.terminate()
    forkserver._forkserver._stop()


if multiprocessing.parent_process() is None:  # pytest: a process that was started here ends its own children in order
    atexit.register(_stop_server)


class Process:
    """A process with what the tests, and Lightning, ask of a `subprocess.Popen`."""

    def __init__(self, process: BaseProcess) -> None:
        assert process.pid is not None
        self.process, self.pid = process, process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, once it has ended; the negative of a signal's number where that has ended it."""
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float = PATIENCE) -> int:
        self.process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.process.name, timeout)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


@contextmanager
def started(
    function: Callable[..., object], *arguments: object, output: Path = NOWHERE, errors: Path = NOWHERE
) -> Iterator[Process]:
    """A function in a process and a process group of its own, which are killed in the end.

    Args:
        function: found by its name in a module.
        arguments: of the function.
        output: file to append standard output to.
        errors: file to append standard error to.
    """
    begin = (function, arguments, (output, errors), dict(os.environ), torch.get_num_threads())
    process = _SERVED.Process(target=_begin, args=begin)
    process.start()
    running = Process(process)
    try:
        yield running
    finally:
        running.send_signal(signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()


def run_command(arguments: list[str]) -> None:
    """The `maskrobust` command; the second process that Lightning starts for DDP is a fork, too."""
    from pytorch_lightning.strategies.launchers import subprocess_script

    from maskrobust.train.cli import main

    sys.argv = ["maskrobust", *arguments]
    if "--trainer.strategy=ddp" not in arguments:
        return main()
    forked = multiprocessing.get_context("fork")
    receiver, sender = forked.Pipe(duplex=False)
    second = forked.Process(target=_wait_and_join, args=(receiver, sender))
    second.start()

    def start(_command: list[str], env: dict[str, str], cwd: None) -> Process:
        sender.send(env)
        return Process(second)

    subprocess_script.subprocess = SimpleNamespace(Popen=start)
    with closing(sender):
        return main()


def _wait_and_join(receiver: Connection, sender: Connection) -> None:
    """Run the same command with the environment that Lightning gives, if it ever does."""
    from maskrobust.train.cli import main

    sender.close()
    with suppress(EOFError):
        _set_environment(receiver.recv())
        main()


def _set_environment(environment: dict[str, str]) -> None:
    """Those of a shell; what wandb keeps for the forks of its own process, its service and its folder, is left out."""
    os.environ.clear()
    os.environ.update({name: value for name, value in environment.items() if name != "WANDB_SERVICE"})
    for name in [each for each in sys.modules if each.partition(".")[0] == "wandb"]:  # which timm imports
        del sys.modules[name]


def _begin(
    function: Callable[..., object],
    arguments: tuple[object, ...],
    files: tuple[Path, Path],
    environment: dict[str, str],
    threads: int,
) -> None:
    """Become what a shell starts, whatever the server and multiprocessing have set."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _set_environment(environment)
    multiprocessing.set_start_method(None, force=True)
    torch.set_num_threads(threads)
    end_loaders_soon()
    for number, path in enumerate(files):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for descriptor in (number + 1, _CAPTURED[number]):
            os.dup2(file, descriptor)
        os.close(file)
    try:
        function(*arguments)
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out
