"""Rows of a benchmark, as a table and as JSON."""

import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from maskrobust.train.storage.files import write_json
from maskrobust.train.storage.provenance import device_name

Row = dict[str, Any]
JSON = Path("runs/bench.json")
"""Where the numbers are written by default."""

_WIDTH_IN_FILES = 1000  # of columns, at most: no name is cut


def report(part: str, rows: Iterable[Row], device: torch.device, path: Path, **settings: Any) -> None:
    """Print rows as one table, and write them with machine and settings as JSON.

    Args:
        part: the name of the benchmark, which is the key of its settings and rows in the JSON.
        rows: at least one, all with the same keys, which are the columns.
        device: what was measured.
        path: of the JSON.
        settings: what else is written.
    """
    rows = list(rows)
    machine = f"{platform.machine()}, {device_name(device)}"
    write_json(path, {"machine": machine, "torch": torch.__version__, part: {**settings, "rows": rows}})
    table = Table(title=f"{part}; {machine}; torch {torch.__version__}")
    for column, value in rows[0].items():
        table.add_column(column.replace("_", " "), justify="left" if isinstance(value, str) else "right")
    for row in rows:
        table.add_row(*map(_written, row.values()))
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH_IN_FILES
    console.print(table)
    print(f"numbers: {path}")


def _written(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
