"""The notebooks run from top to bottom, and show what they print and draw."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch

from tests.pages.notebooks import run
from tests.test_house import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
SHORT = """
TRAIN_IMAGES, EPOCHS, QUERIES, IMAGES, SAMPLES, HOLES, FRACTIONS = 100, 1, 80, 2, 40, 1, (0.0, 0.5)
NETWORK = "small_resnet:random"
"""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_gives_the_outputs_it_shows(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    shown = [cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    backend = plt.get_backend()
    plt.switch_backend("agg")
    try:
        with torch.random.fork_rng(devices=[]):
            found = run(notebook, SHORT)
    finally:
        plt.switch_backend(backend)
    kinds = [[[output["output_type"] for output in outputs] for outputs in each] for each in (shown, found)]
    assert kinds[0] == kinds[1]
    assert any(outputs for outputs in shown)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_was_run_in_order(path: Path) -> None:
    assert path.stat().st_size < 250_000
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert cells[0]["cell_type"] == "markdown" and cells[0]["source"][0].startswith("# ")
    counts = [cell["execution_count"] for cell in cells if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert len({cell["id"] for cell in cells}) == len(cells)
