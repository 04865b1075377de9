"""What the processes of a training tell each other, and the script that has started them."""

import os
from pathlib import Path
from typing import TypeVar

from torch import distributed

Found = TypeVar("Found")

PROGRESS = "MASKROBUST_PROGRESS"
"""Environment variable that names a file; `scripts/launch_slurm` sets it."""


def of_all_ranks(found: Found) -> list[Found]:
    """What every process has found, in order of ranks. A collective operation: every process must ask.

    Args:
        found: any value that can be pickled.
    """
    if not distributed.is_initialized():
        return [found]
    gathered: list[Found | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(gathered, found)
    return [each for each in gathered if each is not None]


def note_progress() -> None:
    """Make the file that the environment variable `MASKROBUST_PROGRESS` names; without that variable, do nothing.

    A job that was stopped is put back into the queue only where there is that file: one that has kept nothing would
    be put back for ever.
    """
    if PROGRESS in os.environ:
        Path(os.environ[PROGRESS]).touch()
