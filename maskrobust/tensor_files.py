"""Files of tensors from anyone: safetensors, and what a plain tensor is."""

from pathlib import Path

import torch
from torch import Tensor

from maskrobust.errors import InputError, library_needed


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name, on the CPU.

    Raises:
        InputError: the file is no readable safetensors file, or holds a tensor that is not plain; see `is_plain`.
    """
    with library_needed():  # here: layer masking does without it
        import safetensors.torch

    try:
        tensors = safetensors.torch.load_file(path)
        odd = [name for name, tensor in tensors.items() if not is_plain(tensor)]
        if odd:
            raise ValueError(f"'{odd[0]}' in it is of {tensors[odd[0]].dtype}, where real numbers are expected")
    except Exception as error:  # a damaged file can make the reader raise anything
        reason = str(error) or type(error).__name__
        raise InputError(f"'{path}' is not a readable safetensors file ({reason}); write it again.") from error
    return tensors


def is_plain(value: object) -> bool:
    """Whether a value is a dense tensor of real numbers or truth values in memory."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not (value.is_quantized or value.is_complex() or value.is_nested)
    )
