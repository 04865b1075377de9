"""Calls in other processes, with a bounded number under way."""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_all_start_methods, get_context, parent_process
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")


def call_in_processes(
    function: Callable[..., Result], arguments: Iterable[tuple[Any, ...]], workers: int
) -> Generator[Result]:
    """The results of calls, in the order of their arguments.

    Args:
        function: of a module, so that another process can import it.
        arguments: of each call; taken as calls finish, so that at most 2 x `workers` are in memory.
        workers: processes, at least 1; a single one is this process.
    """
    if workers == 1:
        yield from (function(*each) for each in arguments)
        return
    # A fork, as loaders make: importing torch anew takes longer than most shards. Like them with one thread for torch:
    # the threads of OpenMP do not survive a fork, and a process that calls on them waits for ever.
    context = get_context("fork" if "fork" in get_all_start_methods() else "spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare) as pool:
        under_way: deque[Future[Result]] = deque()
        try:
            for each in arguments:
                under_way.append(pool.submit(function, *each))
                if len(under_way) == 2 * workers:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()


def _prepare() -> None:
    """Give torch one thread, leave Ctrl-C to the parent, and end once that is gone, which may have been killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
