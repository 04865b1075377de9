"""The command in a process of its own, and what its runs leave."""

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


def run(arguments: Sequence[str], status: int = 0) -> str:
    """Run the command in a process group of its own, and return what it says on standard error.

    Args:
        arguments: of `maskrobust`.
        status: with which it must exit; that of a process ended by a signal is the negative of its number.
    """
    command = [sys.executable, "-m", "maskrobust.train.cli", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, process_group=0)
    try:
        _, errors = process.communicate(timeout=200)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=20)
    assert process.returncode == status, errors
    return errors


def rows(folder: Path) -> list[dict[str, str]]:
    """The rows of the one metrics.csv below a folder."""
    (path,) = folder.rglob("metrics.csv")
    return list(csv.DictReader(path.read_text().splitlines()))


def last(folder: Path) -> Path:
    """The newest last checkpoint below a folder."""
    return max(folder.rglob("last.ckpt"), key=lambda path: path.stat().st_mtime)
