"""The processes of one command, as torchrun starts them: they join, wait for each other, and hear from the first."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

from torch import distributed

from maskrobust.errors import InputError

Found = TypeVar("Found")

_PATIENCE = timedelta(days=30)  # torchrun ends all processes when one fails, so there is nothing to give up on


def local_rank() -> int:
    """This process's number on its machine, from 0, as torchrun tells it."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def is_first() -> bool:
    """Whether this process is the one that speaks for all."""
    return not distributed.is_initialized() or distributed.get_rank() == 0


@contextmanager
def joined() -> Iterator[None]:
    """Join the other processes that torchrun has started for a block; a process that is alone joins none.

    What they tell each other are answers and not tensors on devices, so gloo carries them on GPUs, too.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    distributed.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def wait_for_all() -> None:
    """Wait until every process is here; signals are answered meanwhile.

    Raises:
        InputError: another process has ended.
    """
    if not distributed.is_initialized():
        return
    try:
        barrier = distributed.barrier(async_op=True)
        while not barrier.is_completed():
            time.sleep(0.02)
        barrier.wait()
    except RuntimeError as error:
        raise InputError(
            "another process of this command has ended before its work was done; see what it said, and call the same "
            "command again to go on."
        ) from error


def from_first(found: Found) -> Found:
    """What the first process has found; every process must ask."""
    if not distributed.is_initialized():
        return found
    wait_for_all()
    told = [found]
    distributed.broadcast_object_list(told)
    return told[0]


@contextmanager
def first_of_each_machine_first() -> Iterator[None]:
    """A block that one process of each machine runs before the others, so that files are fetched once."""
    if local_rank() > 0:
        wait_for_all()
    yield
    if local_rank() == 0:
        wait_for_all()
