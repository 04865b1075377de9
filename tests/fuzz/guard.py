"""A call that reads a stranger's file: bounded time and memory, and nothing written, started, deleted or asked for."""

import os
import resource
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from tests.fuzz.limits import is_sentence

_SECONDS = 20
_MEMORY = 2**30
_FORBIDDEN = (
    "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.remove", "os.rename",
    "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod", "os.truncate", "shutil.", "socket.connect",
    "socket.getaddrinfo", "urllib.", "webbrowser.",
)  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_watched: list[str] | None = None


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _watched is None:
        return
    if event.startswith(_FORBIDDEN) or (event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING):
        _watched.append(f"{event} {arguments[:2]}")


sys.addaudithook(_watch)  # which stays for good, so it looks only while `_watched` is a list


class HangError(BaseException):
    """A call does not come back; no reader takes this for a fault of its file."""


def _hang(_number: int, _frame: FrameType | None) -> None:
    raise HangError(f"nothing came of it in {_SECONDS} seconds")


def outcome(read: Callable[[], object], folder: Path) -> str:
    """Whether a file was "accepted" or "refused" in one sentence.

    Args:
        read: reads it.
        folder: where it lies, with all that must stay as it is.

    Raises:
        AssertionError: it ended otherwise, or did what reading a file must not.
    """
    global _watched  # noqa: PLW0603 - a hook cannot be taken off again
    before = contents(folder)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    alarm = signal.signal(signal.SIGALRM, _hang)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + _MEMORY, limits[1]))
    signal.alarm(_SECONDS)
    _watched = found = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow may warn of a damaged file as well
            read()
        return "accepted"
    except Exception as error:
        if not is_sentence(error):
            raise
        return "refused"
    finally:
        _watched = None
        signal.alarm(0)
        signal.signal(signal.SIGALRM, alarm)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        assert not found, found
        assert contents(folder) == before


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Tally(Counter[str]):
    """How many inputs were accepted, and how many refused."""

    def __str__(self) -> str:
        return f"{self['accepted']} accepted, {self['refused']} refused"
