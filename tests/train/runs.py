"""The command in a process of its own, and what its runs leave."""

import csv
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.processes import run_command, started


def run(arguments: Sequence[str], status: int = 0) -> str:
    """Run the command in a process group of its own, and return what it says on standard error.

    Args:
        arguments: of `maskrobust`.
        status: with which it must exit; that of a process ended by a signal is the negative of its number.
    """
    with tempfile.TemporaryDirectory() as folder:
        errors = Path(folder) / "errors"
        with started(run_command, list(arguments), errors=errors) as process:
            ended = process.wait()
        said = errors.read_text()
    assert ended == status, said
    return said


def next_commands(told: str) -> list[list[str]]:
    """The arguments of `maskrobust` in each line of what a command has told that says what to type next."""
    lines = [shlex.split(line.removeprefix("next: ")) for line in told.splitlines() if line.startswith("next: ")]
    assert all(Path(program).name == "maskrobust" for program, *_ in lines)
    return [arguments for _, *arguments in lines]


def table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as stream:
        return [*csv.DictReader(stream)]


def rows(folder: Path) -> list[dict[str, str]]:
    """Those of the one metrics.csv below a folder."""
    (path,) = folder.rglob("metrics.csv")
    return table(path)


def last(folder: Path) -> Path:
    """The newest last checkpoint below a folder."""
    return max(folder.rglob("last.ckpt"), key=lambda path: path.stat().st_mtime)
