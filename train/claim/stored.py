"""A run on disk: what it has learned, and what it answers, each made once."""

import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.train.storage.files import write_json
from maskrobust.train.storage.provenance import provenance
from maskrobust.train.storage.store import Store

STATE = "state.ckpt"
"""The newest state of a training in an unfinished folder."""

RECORD = "training.json"
"""What is recorded about a training, for people."""

_ANSWERS = "answers"


@dataclass(frozen=True)
class StoredRun:
    """One run of one arm on disk.

    Attributes:
        arm: name of the arm that makes it.
        seed: of the run.
        folder: of all that follows.
        learned: what it has learned: the weights of its network, or the affine maps of a calibration.
        trained: keeps that, by the name of `folder`; its settings are all that this follows from.
        methods: masking methods that it is asked under.
        answered: keeps its answers; its settings are all that these follow from.
    """

    arm: str
    seed: int
    folder: Path
    learned: Path
    trained: Store
    methods: tuple[MaskingMethod, ...]
    answered: Store

    def is_trained(self) -> bool:
        """Whether what it has learned is there; an InputError where that has other settings."""
        return self.trained.get(self.folder.name) is not None

    def is_measured(self) -> bool:
        """Whether its answers are there; an InputError where those have other settings."""
        return self.answered.get(_ANSWERS) is not None

    def learn(self, learn: Callable[[Path], dict[str, Any]]) -> None:
        """Make the run where it is not there; see `Store.get_or_make`.

        Args:
            learn: writes what is learned into the folder that it is given, and returns what to record about it.
        """

        def make(folder: Path) -> None:
            start = time.monotonic()
            found = learn(folder)
            origin = provenance(time.monotonic() - start, shlex.join(sys.argv))
            write_json(folder / RECORD, {**found, "provenance": origin})
            (folder / STATE).unlink(missing_ok=True)

        self.trained.get_or_make(self.folder.name, make)

    def newest_state(self) -> Path | None:
        """The newest state of a training of this run that has not been finished; None where there is none."""
        return self.trained.newest_unfinished(self.folder.name, STATE)

    def answers(self, make: Callable[[Path], object]) -> Path:
        """The folder of its answers, into which `make` writes them where they are not there."""
        return self.answered.get_or_make(_ANSWERS, make)
