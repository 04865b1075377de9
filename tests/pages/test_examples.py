"""What pages give to run beside commands: code and notebooks."""

import json
import re

import matplotlib.pyplot as plt
import pytest
import torch

from tests.pages.gallery import PICTURES, draw
from tests.pages.notebooks import run
from tests.test_house import ROOT

BLOCK, SHAPE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE), r"^(\w+) = .*# \((\d+(?:, \d+)+)\)"


@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:The number of training batches")
@pytest.mark.parametrize("page", ["ignore-a-region.md", "audio-series-volumes.md", "detectors.md", "segmentation.md"])
def test_the_code_of_a_page_runs_and_its_comments_name_the_shapes(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    shapes = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for block in BLOCK.findall((ROOT / "docs" / page).read_text(encoding="utf-8")):
            exec(block, names)
            for name, shape in re.findall(SHAPE, block, flags=re.MULTILINE):
                assert str(tuple(names[name].shape)) == f"({shape})"  # type: ignore[attr-defined]
                shapes += 1
    assert shapes > 0
    if "coverage" in names:
        assert 0 < names["visible"].sum() < names["visible"].numel()
        assert names["coverage"].amax() < 1  # squeeze-and-excitation
        assert names["usable"].any() and not names["usable"][~names["visible"]].any()


NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
SHORT = """
TRAIN_IMAGES, EPOCHS, QUERIES, IMAGES, SAMPLES, HOLES, FRACTIONS = 100, 1, 80, 2, 40, 1, (0.0, 0.5)
NETWORK = "small_resnet:random"
"""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_gives_the_outputs_it_shows(path):
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


def test_the_scripts_of_the_gallery_draw_the_pictures_of_the_page(tmp_path):
    backend = plt.get_backend()
    try:
        with torch.random.fork_rng(devices=[]):
            drawn = draw(tmp_path, {"train_images": 64, "val_images": 8, "max_epochs": 1})
    finally:
        plt.switch_backend(backend)
    shown = {path.name: path for path in PICTURES.glob("*.png")}
    assert [path.name for path in drawn] == sorted(shown)
    assert len(drawn) == 3
    for path in drawn:
        now, then = plt.imread(path), plt.imread(shown[path.name])
        assert now.shape == then.shape
        if path.stem == "hide":  # drawn without a trained network
            assert abs(now - then).mean() < 0.01
        assert shown[path.name].stat().st_size < 60_000
