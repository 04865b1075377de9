"""Telling the script that has started a command that the command has kept something to go on from."""

import os
from pathlib import Path

PROGRESS = "MASKROBUST_PROGRESS"
"""Environment variable that names a file; `scripts/launch_slurm` sets it."""


def note_progress() -> None:
    """Make the file that the environment variable `MASKROBUST_PROGRESS` names; without that variable, do nothing.

    A job that was stopped is put back into the queue only where there is that file: one that has kept nothing would
    be put back for ever.
    """
    if PROGRESS in os.environ:
        Path(os.environ[PROGRESS]).touch()
