"""Every number of claim.json and reliance.json as CSV."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from maskrobust.train.plain_text import printable

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBERS = ("value", "low", "high", "images", "left_out", "undefined_because")


def claim_csv(claim: Mapping[str, Any]) -> str:
    """One row for each figure: arm, masking method, seed (empty: over all seeds), its name, and its numbers.

    Args:
        claim: the content of claim.json.

    Returns:
        CSV with a head. A name within a part of the figures is written like "curves/slic/random/accuracy/0.3".
    """
    return _as_csv(("arm", "method", "seed"), _claim_rows(claim))


def reliance_csv(reliance: Mapping[str, Any]) -> str:
    """One row for each figure: checkpoint, the one it is compared with, masking method, its name, and its numbers.

    Args:
        reliance: the content of reliance.json.

    Returns:
        CSV with a head, see `claim_csv`. The second column is empty but for differences.
    """
    return _as_csv(("checkpoint", "compared_with", "method"), _reliance_rows(reliance))


def named_figures(part: Any, name: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every figure and every other number within a part of the JSON, by name; other numbers as figures of a value.

    Args:
        part: a figure, a number, or a mapping of parts; anything else is passed over.
        name: of the part.
    """
    if isinstance(part, Mapping):
        if "value" in part:
            yield name, part
            return
        points = part.get("points", [])
        curve = {f"{point['hidden_fraction']:g}": point for point in points}
        others = {key: each for key, each in part.items() if key not in ("points", "undefined_because")}
        for key, each in (curve | others).items():
            yield from named_figures(each, f"{name}/{key}" if name else key)
    elif part is None or (isinstance(part, int | float) and not isinstance(part, bool)):
        yield name, {"value": part}


def _claim_rows(claim: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str, Mapping[str, Any]]]:
    for comparison in claim["verdict"]["comparisons"]:
        for name, figure in named_figures({**comparison, "eligible": int(comparison["eligible"])}, "comparison"):
            yield (comparison["arm"], "", ""), name, figure
    for name, figure in named_figures(claim["probe"], "probe"):
        yield ("", "", ""), name, figure
    for arm, entry in claim["arms"].items():
        for method, found in entry["methods"].items():
            for seed, figures in {"": found["all_seeds"], **found["seeds"]}.items():
                for name, figure in named_figures(figures):
                    yield (arm, method, seed), name, figure
        for method, name, figure in _transfer_rows(entry):
            yield (arm, method, ""), name, figure


def _reliance_rows(reliance: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str, Mapping[str, Any]]]:
    for name, figure in named_figures(reliance["probe_accuracy"], "probe_accuracy"):
        yield ("", "", ""), name, figure
    compared = {"checkpoints": "", "differences": reliance["compared_with"]}
    for part, other in compared.items():
        for checkpoint, methods in reliance[part].items():
            for method, figures in methods.items():
                for name, figure in named_figures(figures):
                    yield (checkpoint, other, method), name, figure
    for checkpoint, entry in reliance.get("networks", {}).items():
        for method, name, figure in _transfer_rows(entry):
            yield (checkpoint, "", method), name, figure


def _transfer_rows(entry: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Of the matrix over all masking methods; a figure that stands with its main method already comes again."""
    for method, by_family in entry.get("transfer", {}).items():
        for name, figure in named_figures(by_family, "matrix"):
            yield method, name, figure
    worst = entry.get("worst_cell")
    if worst is not None:
        yield worst["method"], f"worst_cell/{worst['family']}", worst


def _as_csv(keys: tuple[str, ...], rows: Iterable[tuple[tuple[str, ...], str, Mapping[str, Any]]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*keys, "figure", *_NUMBERS])
    for key, name, figure in rows:
        writer.writerow(map(_cell, [*key, name, *(figure.get(column) for column in _NUMBERS)]))
    return text.getvalue()


def _cell(value: Any) -> Any:
    """A cell; text that a spreadsheet would calculate gets an apostrophe ahead, which makes it text."""
    if not isinstance(value, str):
        return value
    return f"'{printable(value)}" if value.startswith(_FORMULA) else printable(value)
