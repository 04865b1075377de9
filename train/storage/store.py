"""Keep results that take long to make in folders, written atomically and found again by what they were made from."""

import errno
import fcntl
import json
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any, TextIO

from pytorch_lightning.utilities import rank_zero_info

from maskrobust.errors import InputError
from maskrobust.lm_modules.training.processes import note_progress
from maskrobust.train.running.processes import is_first
from maskrobust.train.storage.files import read_json, write_json
from maskrobust.train.storage.provenance import fingerprint

_RECORD = "entry.json"


@dataclass(frozen=True)
class Store:
    """Entries, each a folder below a root that every process sees.

    An entry is made in a folder of another name, which is renamed when it is whole. So no process writes into another
    one's folder, a killed process leaves no half entry, and of several processes that make the same entry the first to
    finish counts: no lock is needed, whatever machines share the file system.

    Attributes:
        root: the folder, made with the first entry.
        settings: what entries follow from, as plain values by name. Each entry records them; of the recorded ones those
            that are named here must be equal.
    """

    root: Path
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Take settings as JSON gives them back."""
        object.__setattr__(self, "settings", json.loads(json.dumps(self.settings, default=str)))

    def get(self, key: str) -> Path | None:
        """The folder of an entry; None where there is none, or where files of it have been removed.

        Raises:
            InputError: it was made with other settings, or is no entry.
        """
        folder = self.root / key
        if not folder.exists():
            return None
        path, remedy = folder / _RECORD, "delete its folder to have that made again"
        record: Any = read_json(path, remedy) if path.is_file() else None
        if not _is_record(record):
            raise InputError(
                f"'{folder}' holds something else than what this version of maskrobust keeps there; move that away, or "
                "give another --out."
            )
        if changed := _differing(self.settings, record["settings"]):
            raise InputError(
                f"'{folder}' was made with another {', '.join(changed)}; call it as it was called then, give another "
                "--out, or delete that folder."
            )
        return folder if {*record["files"]} <= {each.name for each in folder.iterdir()} else None

    def get_or_make(self, key: str, make: Callable[[Path], object]) -> Path:
        """The folder of an entry, made where it is not there, or is no longer whole.

        Unfinished folders of the entry are removed once it is there; a process that works in one of them then takes the
        entry that is there.

        Args:
            key: name of the entry, without "/".
            make: writes the entry into the folder that it is given.

        Raises:
            InputError: see `get`.
        """
        if (found := self.get(key)) is not None:
            return found
        folder, random = self.root / key, secrets.token_hex(4)
        work = self.root / f"{self._unfinished(key)}{socket.gethostname()}-{os.getpid()}-{random}"
        work.mkdir(parents=True)
        try:
            make(work)
            record = {"settings": self.settings, "files": sorted(each.name for each in work.iterdir())}
            write_json(work / _RECORD, record)
            if folder.exists() and self.get(key) is None:
                shutil.rmtree(folder)
            work.rename(folder)
        except Exception:  # another process may have finished, and removed this folder, whatever that broke
            if self.get(key) is None:
                raise
        for unfinished in self.root.glob(f".{escape(key)}.*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        if is_first():
            note_progress()
        return folder

    def newest_unfinished(self, key: str, name: str) -> Path | None:
        """The newest file of a name in the unfinished folders of an entry with these settings; None for none.

        It is read and left where it is, so it does not matter whether the process that wrote it is still alive.
        """
        files = self.root.glob(f"{escape(self._unfinished(key))}*/{name}")
        return max(files, key=lambda file: file.stat().st_mtime, default=None)

    def _unfinished(self, key: str) -> str:
        """How the names of unfinished folders with these settings begin."""
        return f".{key}.{fingerprint(self.settings)}."


def _is_record(content: Any) -> bool:
    if not isinstance(content, dict) or not isinstance(content.get("settings"), dict):
        return False
    files = content.get("files")
    return isinstance(files, list) and all(isinstance(name, str) for name in files)


def _differing(settings: Mapping[str, Any], others: Mapping[str, Any]) -> list[str]:
    """Names of settings that others lack, or have another value of."""
    return sorted(name for name, value in settings.items() if name not in others or others[name] != value)


class FolderTakenError(InputError):
    """Another command holds the lock of a folder."""


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
        FolderTakenError: another command holds the lock; its process and machine are named.
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
                raise FolderTakenError(
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
