"""What is known of an image, in a file of its own: there whole or not at all, and recognised by its settings."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskrobust.errors import InputError
from maskrobust.lm_modules.explanation.explaining import Arrays
from maskrobust.lm_modules.reliance.arrays import read_arrays
from maskrobust.train.files import atomic_path

_FINGERPRINT = "fingerprint"


def read_explained(path: Path, fingerprint: str) -> Arrays | None:
    """The arrays of an image that an earlier call has explained; None where there are none.

    Raises:
        InputError: the file cannot be read, or has another fingerprint.
    """
    if not path.exists():
        return None
    found = read_arrays(path, [_FINGERPRINT])
    if found.pop(_FINGERPRINT).tobytes() != fingerprint.encode():
        raise InputError(
            f"'{path}' holds an explanation of another image, of another network or with other settings; give another "
            f"--out, or delete '{path.parent}' to have all made anew."
        )
    return found


def write_explained(path: Path, arrays: Arrays, fingerprint: str) -> None:
    """Write the arrays of an image, atomically."""
    write_archive(path, {**arrays, _FINGERPRINT: np.frombuffer(fingerprint.encode(), dtype=np.uint8)})


def write_archive(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays as a compressed npz archive, atomically."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def digest(tensors: Mapping[str, Tensor]) -> str:
    """32 hexadecimal digits that depend on every name and value of tensors, such as a state dict."""
    found = hashlib.blake2b(digest_size=16)
    for name, tensor in tensors.items():
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()
