"""Loader processes that leave it to the process they work for when to stop."""

import os
import signal
import threading


def outlive_stop_signals(_worker: int) -> None:
    """Let a loader process pass over SIGINT, and over a SIGTERM that does not come from its parent.

    A scheduler or a terminal signals every process of a run at once. The training finishes its step and saves, for
    which it still needs its loader processes. Give it to a `DataLoader` as `worker_init_fn`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):  # macOS cannot tell who has sent a signal
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_when_the_parent_says_so, name="outlive-stop-signals", daemon=True).start()


def _end_when_the_parent_says_so() -> None:
    parent = os.getppid()
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
