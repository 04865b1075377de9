"""A lock for each run of a claim, so that processes that share a folder never make the same run at once."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from maskrobust.errors import InputError


@contextmanager
def run_lock(path: Path, what: str, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock at `path` for the length of a block.

    The operating system holds it for the process: it is free again when the process ends, however it ends. The file
    stays.

    Args:
        path: of the lock; its folder is made when missing.
        what: is being made, for the error.
        on_wait: called once before waiting for another process; None does not wait.

    Raises:
        InputError: another process holds the lock and there is no `on_wait`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        if on_wait is None:
            raise InputError(
                f"{what} is being made by another process, which holds '{path}'; let it finish, or run another part."
            ) from error
        on_wait()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
