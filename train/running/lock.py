"""One command at a time in a folder."""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from pytorch_lightning.utilities import rank_zero_info

from maskrobust.errors import InputError
from maskrobust.train.running.processes import is_first

_TAKEN = (errno.EACCES, errno.EAGAIN)
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other commands that ask for it out of a folder for a block; the processes of one command share the lock.

    The lock is POSIX's: it ends with the process that holds it, however that ends, and holds on other machines where
    the file system has locks, as NFS does. Where it has none, that is logged, and nobody is kept out.

    Args:
        folder: made where it is missing, and then removed again where the block leaves nothing in it.

    Raises:
        InputError: another command holds the lock; its process and machine are named.
    """
    if not is_first():
        yield
        return
    is_new, path = not folder.exists(), folder / ".lock"
    folder.mkdir(parents=True, exist_ok=True)
    with _hold(path):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is held: whoever has opened this file sees that it has gone
            if is_new:
                with suppress(OSError):  # there is something in it
                    folder.rmdir()


def _hold(path: Path) -> TextIO:
    """The file at `path`, locked until it is closed, with the name of this process in it."""
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _TAKEN:
                file.seek(0)
                with file:
                    holder = file.read() or "another process"
                raise InputError(
                    f"'{path.parent}' must be written to by one command at a time, but {holder} is at work there; wait "
                    "for its end, or give another --out."
                ) from error
            if error.errno not in _WITHOUT_LOCKS:
                raise
            rank_zero_info(
                f"'{path.parent}' is on a file system without locks ({os.strerror(error.errno)}); see to it that no "
                "other command has the same --out"
            )
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}")
                file.flush()
                return file
        file.close()  # its holder has removed it in the meantime
