"""Runs notebooks cell by cell; `python -m tests.pages.notebooks docs/notebooks/*.ipynb` writes their outputs.

The cells are plain Python: no magic commands, and a figure is shown by `plt.show()`.
"""

import base64
import contextlib
import io
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import CodeType
from typing import Any
from unittest.mock import patch

import matplotlib.pyplot as plt


def run(notebook: Mapping[str, Any], settings: str = "") -> list[list[dict[str, Any]]]:
    """The outputs of each code cell, in order.

    Args:
        notebook: of format 4.
        settings: Python that is run after the first code cell, which holds the sizes.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    found = []
    for number, cell in enumerate(cell for cell in notebook["cells"] if cell["cell_type"] == "code"):
        found.append(_run_cell(compile("".join(cell["source"]), f"cell {number}", "exec"), names))
        if number == 0:
            exec(settings, names)
    return found


def _run_cell(code: CodeType, names: dict[str, Any]) -> list[dict[str, Any]]:
    printed, pictures = io.StringIO(), list[dict[str, Any]]()
    with contextlib.redirect_stdout(printed), patch.object(plt, "show", lambda: pictures.append(_picture())):
        exec(code, names)
    lines = printed.getvalue().splitlines(keepends=True)
    return [{"output_type": "stream", "name": "stdout", "text": lines}, *pictures] if lines else pictures


def _picture() -> dict[str, Any]:
    """The current figure as an output of a cell, described by its title."""
    drawn, figure = io.BytesIO(), plt.gcf()
    figure.savefig(drawn, format="png", dpi=80, metadata={"Software": None})
    title = figure.get_suptitle()
    plt.close(figure)
    data = {"image/png": base64.b64encode(drawn.getvalue()).decode(), "text/plain": [title]}
    return {"output_type": "display_data", "data": data, "metadata": {}}


def main(paths: list[str]) -> None:
    """Run notebooks and write their outputs into them."""
    for path in map(Path, paths):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        for number, (cell, outputs) in enumerate(zip(code, run(notebook), strict=True), start=1):
            cell["execution_count"], cell["outputs"] = number, outputs
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    plt.switch_backend("agg")
    main(sys.argv[1:])
