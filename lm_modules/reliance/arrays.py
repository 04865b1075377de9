"""NumPy arrays that outcomes and statistics are made of: names for their types, and reading them from a file."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
