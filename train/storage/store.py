"""Keep results that take long to make in folders, written atomically and found again by what they were made from."""

import json
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

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
        files = record.get("files") if isinstance(record, dict) and isinstance(record.get("settings"), dict) else None
        if not isinstance(files, list) or not all(isinstance(name, str) for name in files):
            raise InputError(
                f"'{folder}' holds something else than what this version of maskrobust keeps there; move that away, or "
                "give another --out."
            )
        saved = record["settings"]
        if changed := sorted(name for name, value in self.settings.items() if saved.get(name, ...) != value):
            raise InputError(
                f"'{folder}' was made with another {', '.join(changed)}; call it as it was called then, give another "
                "--out, or delete that folder."
            )
        return folder if {*files} <= {each.name for each in folder.iterdir()} else None

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

    def copy_newest_unfinished(self, key: str, name: str, folder: Path) -> Path | None:
        """The newest file of a name in the unfinished folders of an entry with these settings, copied; None for none.

        It is read and left where it is, so it does not matter whether the process that wrote it is still alive, and
        takes it away meanwhile.
        """
        while True:
            files = self.root.glob(f"{escape(self._unfinished(key))}*/{name}")
            try:
                newest = max(files, key=lambda file: file.stat().st_mtime, default=None)
                return None if newest is None else Path(shutil.copy2(newest, folder))
            except FileNotFoundError:
                continue

    def _unfinished(self, key: str) -> str:
        """How the names of unfinished folders with these settings begin."""
        return f".{key}.{fingerprint(self.settings)}."
