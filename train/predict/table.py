"""Write predictions: a CSV row for each file, and an NPZ file of features."""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskrobust.errors import InputError
from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.train.predict.answers import WHOLE, Prediction
from maskrobust.train.report.results import as_csv
from maskrobust.train.storage.files import atomic_path

_DIGITS = 6


class Row(NamedTuple):
    """What is written of one file.

    Attributes:
        file: the file.
        visible_fraction: see `Prediction`.
        error: why it could not be read; empty where it was.
        likeliest: by masking method the likeliest classes with their probabilities; empty where it could not be read.
        features: by masking method (D,) float32; empty unless asked for.
    """

    file: Path
    visible_fraction: float
    error: str
    likeliest: Mapping[MaskingMethod, Sequence[tuple[str, float]]]
    features: Mapping[MaskingMethod, NDArray[np.float32]]

    @classmethod
    def of(cls, found: Prediction, top: int) -> "Row":
        """The row of a prediction, with so many classes."""
        likeliest = {method: found.likeliest(top, method) for method in found.probabilities}
        features = {method: each.numpy() for method, each in found.features.items()}
        return cls(found.file, found.visible_fraction, found.error, likeliest, features)


def predictions_csv(rows: Sequence[Row]) -> str:
    """A line for each file: its visible fraction, the classes of every method beside each other, and what went wrong.

    With several methods, columns of classes and probabilities begin with the method.

    Raises:
        InputError: no file could be read.
    """
    first = next((row for row in rows if not row.error), None)
    if first is None:
        raise InputError(f"none of {len(rows)} files could be read; the first: {rows[0].error}")
    methods = [*first.likeliest]
    top = len(first.likeliest[methods[0]])
    prefixes = [f"{method}_" for method in methods] if len(methods) > 1 else [""]
    of_classes = [
        f"{prefix}{what}_{place}"
        for place in range(1, top + 1)
        for prefix in prefixes
        for what in ("class", "probability")
    ]
    lines = [_line(row, methods, top) for row in rows]
    return as_csv(["file", "visible_fraction", *of_classes, "error"], lines)


def _line(row: Row, methods: Sequence[MaskingMethod], top: int) -> list[object]:
    places = [(place, method) for place in range(top) for method in methods]
    likeliest = [("", "") if row.error else row.likeliest[method][place] for place, method in places]
    numbers = ("" if row.error else row.visible_fraction, *chain(*likeliest))
    cells = (round(each, _DIGITS) if isinstance(each, float) else each for each in numbers)
    return [str(row.file), *cells, row.error]


def write_features(path: Path, rows: Sequence[Row]) -> None:
    """Write features as NPZ: `files` (N,), and under the name of each method (N, D) float32.

    Files that could not be read are left out.

    Args:
        path: path of the file.
        rows: at least one that could be read.
    """
    read = [row for row in rows if not row.error]
    arrays = {method: np.stack([row.features[method] for row in read]) for method in read[0].features}
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, files=np.array([str(row.file) for row in read]), **arrays)  # type: ignore[arg-type]


def summary(rows: Sequence[Row]) -> list[str]:
    """What to tell: how many files were read, how they were hidden, and how often methods differ."""
    read, failed = [row for row in rows if not row.error], [row for row in rows if row.error]
    told = [f"predicted: {len(read)} of {len(rows)} images"]
    if failed:
        told[0] += f" ({len(failed)} could not be read, the first: {failed[0].error.rpartition('; ')[0]})"
    first, *others = read[0].likeliest
    if first != WHOLE:
        told.append(f"hidden by: {', '.join(read[0].likeliest)}")
    for other in others:
        count = sum(row.likeliest[first][0][0] != row.likeliest[other][0][0] for row in read)
        told.append(f"another class under {other} than under {first}: {count} of {len(read)} images")
    return told
