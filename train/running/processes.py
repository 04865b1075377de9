"""The processes of one command, started by torchrun or srun, and the device of each.

Processes join, wait for each other, and ask the first. Apple's GPUs ("mps") lack float64, in which holes and some
results are computed; they are never chosen, and refused.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed

from maskrobust.errors import InputError

Found = TypeVar("Found")

_PATIENCE = timedelta(hours=6)  # for one that hangs: torchrun and srun end all processes when one fails


def local_rank() -> int:
    """This process's number on its machine, from 0, as torchrun or `maskrobust submit` tells it."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def number_of_cores() -> int:
    """The cores that this process may compute on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_first() -> bool:
    """Whether this process is the one that speaks for all."""
    return not distributed.is_initialized() or distributed.get_rank() == 0


@contextmanager
def joined() -> Iterator[None]:
    """Join the other processes of a launcher for a block; a process that is alone joins none.

    What they tell each other are answers and not tensors on devices, so gloo carries them on GPUs, too.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    distributed.init_process_group("gloo", timeout=_PATIENCE)
    yield
    # Not after an error or a signal: it would wait for a process that may never answer.
    distributed.destroy_process_group()


def wait_for_all() -> None:
    """Wait until every process is here; signals are answered meanwhile.

    Raises:
        InputError: another process has ended, or hangs.
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
            "another process of this command has ended before its work was done, or has not answered for six hours; "
            "see what it said, and call the same command again."
        ) from error


def gathered(found: Found) -> list[Found]:
    """What each process has found, in order of ranks, once all have; every process must ask."""
    from maskrobust.lm_modules.training.processes import of_all_ranks  # the import takes seconds

    wait_for_all()
    return of_all_ranks(found)


def gathered_by_first(found: Found) -> list[Found]:
    """What each process has found, on the first one; nothing on the others. Every process must ask."""
    wait_for_all()
    if not distributed.is_initialized():
        return [found]
    of_all = [found] * distributed.get_world_size() if is_first() else None
    distributed.gather_object(found, of_all)
    return of_all or []


@contextmanager
def first_of_each_machine_first() -> Iterator[None]:
    """A block that one process of each machine runs before the others, so that files are fetched once."""
    if local_rank() > 0:
        wait_for_all()
    yield
    if local_rank() == 0:
        wait_for_all()


def find_device(name: str | None) -> torch.device:
    """The device of a name; a GPU, or the CPU where there is none, for None.

    Of several processes on one machine, each has a GPU of its own unless the name has a number.

    Raises:
        InputError: there is no such device.
    """
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(f"cuda:{local_rank()}" if name == "cuda" else name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device must be one that torch can compute on here, got '{name}'; choose cpu, or cuda where there is a "
            "GPU for each process."
        ) from error
    if device.type == "mps":
        raise InputError("device must have float64, which Apple's GPUs lack, got 'mps'; leave it out, or choose cpu.")
    return device


def choose_accelerator(given: Any) -> Any:
    """What Lightning is told instead of an accelerator, which it takes by name or as an object.

    For "auto" that is the CPU where Lightning would take an Apple GPU, otherwise the accelerator itself.
    """
    return "cpu" if given == "auto" and torch.backends.mps.is_available() else given
