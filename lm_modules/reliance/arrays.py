"""Array types of the measures, and reading arrays from a file."""

from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from maskrobust.errors import InputError

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def read_arrays(path: Path, needed: Iterable[str]) -> dict[str, Any]:
    """Read all arrays of an npz archive by name; nothing in the file is executed.

    Args:
        path: the archive.
        needed: names that must be there.

    Raises:
        InputError: the file is missing, is no readable npz archive, or lacks an array.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    except Exception as error:  # a damaged file can make the reader raise anything
        raise InputError(
            f"'{path}' must be a readable npz archive, but reading it failed ({type(error).__name__}); delete it to "
            "have it made again."
        ) from error
    missing = sorted(set(needed) - found.keys())
    if missing:
        raise InputError(f"'{path}' lacks the arrays {', '.join(missing)}; delete it to have it made again.")
    return found


def rankable(values: FloatArray) -> FloatArray:
    """Values (..., M) in steps of 1e-6 of the largest magnitude along the last axis: whole numbers with its shape.

    Rank these instead of the values: rounding noise, which depends on the CPU, would rank values that should be equal.
    """
    step = 1e-6 * np.abs(values).max(axis=-1, keepdims=True)
    steps: FloatArray = np.rint(np.divide(values, step, out=np.zeros_like(values, dtype=np.float64), where=step != 0))
    return steps


def check_finite(logits: Tensor, source: Hashable, shown: str) -> None:
    """Refuse logits that are NaN or infinite: their largest is no prediction.

    Args:
        logits: (..., K).
        source: what has given them, for the message: a name, or a network's and a masking method's.
        shown: what they are about, in words.

    Raises:
        InputError: naming both.
    """
    if not logits.isfinite().all():
        broken = ~logits.isfinite().all(dim=-1)
        named = " under ".join(map(str, source)) if isinstance(source, tuple) else source
        raise InputError(
            f"logits of '{named}' must be finite, but are NaN or infinite for {broken.sum()} of {broken.numel()} "
            f"{shown}; check the network's weights, and the mean and std of its preprocessing."
        )
