"""The device that a command computes on.

Apple's GPUs ("mps") lack float64, in which holes and some results are computed; they are never chosen, and refused.
"""

from typing import Any

import torch

from maskrobust.errors import InputError
from maskrobust.train.running.processes import local_rank


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
