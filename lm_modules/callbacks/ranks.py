"""What the processes of a training tell each other."""

from typing import TypeVar

from torch import distributed

Found = TypeVar("Found")


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
