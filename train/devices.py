"""The device that a command computes on."""

import torch

from maskrobust.errors import InputError


def find_device(name: str | None) -> torch.device:
    """The device of a name; the first GPU, or the CPU where there is none, for None.

    Raises:
        InputError: there is no such device.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device must be one that torch can compute on here, got '{name}'; choose cpu, or cuda where there is a "
            "GPU."
        ) from error
    return device
