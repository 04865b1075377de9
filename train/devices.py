"""The device that a command computes on."""

import torch

from maskrobust.errors import InputError
from maskrobust.train.processes import local_rank


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
    return device
