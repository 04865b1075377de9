"""Signals that wait while something is begun."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def held_signals() -> Iterator[None]:
    """Let SIGTERM and Ctrl-C wait for the end of a block, so that what it begins is whole when it is ended.

    An exception of a signal's handler while a `DataLoader` starts leaves an iterator that fails when it is deleted.
    Signals that have no handler, and those of other threads and of forks, do not wait.
    """
    owner, received = os.getpid(), list[int]()
    is_main = threading.current_thread() is threading.main_thread()  # no other may ask for signals
    found = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT) if is_main}
    handlers = {number: handler for number, handler in found.items() if callable(handler)}

    def wait(number: int, frame: FrameType | None) -> None:
        if os.getpid() == owner:
            received.append(number)
        else:
            handlers[signal.Signals(number)](number, frame)

    for number in handlers:
        signal.signal(number, wait)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for each in received:
            signal.raise_signal(each)
