"""A run on disk: its files, how they are recognised, and how its folder comes to be there whole or not at all."""

import os
import secrets
import shlex
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from maskrobust.errors import InputError
from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.train.storage.files import read_json, write_json
from maskrobust.train.storage.provenance import provenance

STATE = "state.ckpt"
"""The newest state of a training in an unfinished folder."""


@dataclass(frozen=True)
class StoredRun:
    """One run of one arm on disk: what it has learned, its answers, and a record of either.

    Attributes:
        arm: name of the arm that makes it.
        seed: of the run.
        folder: of all that follows.
        learned: what it has learned: the weights of its network, or the affine maps of a calibration.
        settings: fingerprint of all that this follows from.
        outcomes: files of its answers by masking method.
        validation: files of its answers on the validation split by masking method.
        measured: fingerprint of all that these follow from.
    """

    arm: str
    seed: int
    folder: Path
    learned: Path
    settings: str
    outcomes: dict[MaskingMethod, Path]
    validation: dict[MaskingMethod, Path]
    measured: str

    @property
    def training_record(self) -> Path:
        """Written when `learned` is there."""
        return self.folder / "training.json"

    @property
    def evaluation_record(self) -> Path:
        """Written when all `outcomes` are there."""
        return self.folder / "evaluation.json"

    def is_trained(self) -> bool:
        """Whether what it has learned is there; an InputError where that is another configuration's."""
        return is_done(self.training_record, self.settings, [self.learned])

    def is_measured(self) -> bool:
        """Whether its outcomes are there; an InputError where those are another configuration's."""
        found = [*self.outcomes.values(), *self.validation.values()]
        remedy = f"delete each {self.evaluation_record.name} to have all measured again, which trains nothing"
        return is_done(self.evaluation_record, self.measured, found, remedy)

    def learn(self, learn: Callable[[Path], dict[str, Any]]) -> None:
        """Make the run's folder in a place of its own, and put it into its place in one step when it is whole.

        This is right without any lock, whatever the processes and machines that share the file system: no two write
        into one folder, and of several that make the same run the first to finish counts; the others drop theirs and
        take what is there. Unfinished folders of the run are removed once it is there; a process that works in one of
        them notices that the run is there, too.

        Args:
            learn: writes what is learned into the folder that it is given, and returns what to record about it.

        Raises:
            InputError: the run's folder is there without what it has learned.
        """
        if self.folder.exists():  # since another process has finished, unless files were removed
            if self.is_trained():
                return
            raise InputError(
                f"'{self.folder}' must hold a whole run, but {self.training_record.name} or {self.learned.name} is not "
                "in it; delete that folder to have the run made again."
            )
        work = self.folder.with_name(f"{self._unfinished}{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}")
        work.mkdir(parents=True)
        start = time.monotonic()
        try:
            found = learn(work)
            origin = provenance(time.monotonic() - start, shlex.join(sys.argv))
            record = {"fingerprint": self.settings, **found, "provenance": origin}
            write_json(work / self.training_record.name, record)
            (work / STATE).unlink(missing_ok=True)
            work.rename(self.folder)
        except (OSError, SafetensorError):  # another process has finished, and removed this folder
            if not self.is_trained():
                raise
        for unfinished in self.folder.parent.glob(f".{escape(self.folder.name)}.*"):
            shutil.rmtree(unfinished, ignore_errors=True)

    def newest_state(self) -> Path | None:
        """The newest state of a training of this run that has not been finished; None where there is none.

        It is read and left where it is, so it does not matter whether the process that wrote it is still alive.
        """
        states = self.folder.parent.glob(f"{escape(self._unfinished)}*/{STATE}")
        return max(states, key=lambda state: state.stat().st_mtime, default=None)

    @property
    def _unfinished(self) -> str:
        """How the names of unfinished folders with these settings begin."""
        return f".{self.folder.name}.{self.settings}."


def is_done(record: Path, expected: str, results: Iterable[Path], remedy: str = "delete that folder") -> bool:
    """Whether a step's record is on disk with the expected fingerprint, and its results beside it.

    Args:
        record: JSON with the fingerprint.
        expected: fingerprint.
        results: files.
        remedy: what to do, other than to give another --out, where the fingerprint is another; for the message.

    Raises:
        InputError: the record has another fingerprint.
    """
    if not record.exists():
        return False
    content = read_json(record)
    found = content.get("fingerprint") if isinstance(content, dict) else None
    if found != expected:
        raise InputError(
            f"'{record.parent}' holds a run with another configuration ({record.name} says {str(found)[:40]}, expected "
            f"{expected}); give another --out, or {remedy}."
        )
    return all(result.exists() for result in results)
