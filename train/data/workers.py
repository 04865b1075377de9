"""Loader processes, which leave it to the process they work for when to stop."""

import os
import signal
import sys
import threading
from types import TracebackType
from typing import Any

import torch


def loading_options(num_workers: int) -> dict[str, Any]:
    """Arguments of a `DataLoader` that say how it loads: in processes that stay, into pinned memory for a GPU.

    Args:
        num_workers: loader processes; 0 to load in this process.
    """
    return {
        "num_workers": num_workers,
        "pin_memory": torch.cuda.is_available(),
        "persistent_workers": num_workers > 0,
        "worker_init_fn": outlive_stop_signals,
    }


def outlive_stop_signals(_worker: int) -> None:
    """Let a loader process pass over SIGINT, and over a SIGTERM that does not come from its parent.

    A scheduler or a terminal signals every process of a run at once. The training finishes its step and saves, for
    which it still needs its loader processes.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = _pass_over_hang_ups
    if not hasattr(signal, "sigwaitinfo"):  # macOS cannot tell who has sent a signal
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_when_the_parent_says_so, name="outlive-stop-signals", daemon=True).start()


def _pass_over_hang_ups(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say nothing where the parent was stopped while it took a batch, which multiprocessing reports in a thread."""
    if not issubclass(kind, EOFError | ConnectionError):
        sys.__excepthook__(kind, error, trace)


def _end_when_the_parent_says_so() -> None:
    parent = os.getppid()
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
