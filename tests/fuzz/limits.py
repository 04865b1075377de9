"""Calls with little memory, as in a process of their own."""

import resource
import sys
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

REFUSED = 7
"""Exit code of a call that ends in one sentence."""


def ends_with_little_memory(function: Callable[..., object], *arguments: object, memory: int = 2**30) -> int | None:
    """How a call ends that may take so many bytes more than this process has: 0, `REFUSED`, or another code.

    Args:
        function: called in a fork.
        arguments: of the call.
        memory: in bytes, at most 1 GiB.
    """
    process = get_context("fork").Process(target=_limited, args=(function, arguments, memory))
    process.start()
    process.join(60)
    process.kill()
    return process.exitcode


def _limited(function: Callable[..., object], arguments: tuple[object, ...], memory: int) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
    try:
        function(*arguments)
    except ValueError as error:
        sys.exit(REFUSED if is_sentence(error) else 1)


def is_sentence(error: Exception) -> bool:
    """Whether the command line would tell an error in one sentence, and without a traceback."""
    from maskrobust.train.sentences import one_sentence

    text = one_sentence(error, "fit")
    return text is not None and text.endswith(".") and "\n" not in text
