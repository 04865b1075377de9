"""What pages give to run beside commands: a completion, code, a study and notebooks."""

import json
import re
import subprocess

import matplotlib.pyplot as plt
import pytest
import torch

from tests.pages.commands import blocks, script
from tests.pages.notebooks import run
from tests.test_house import ROOT

STAND_IN = """maskrobust() {
    case $1 in
        --help) printf '%s\\n' 'usage: ...' '  fit        train' '  evaluate   measure' '  maskrobust fit --x 1  y' ;;
        evaluate) printf '%s\\n' 'usage: [--methods M] [--model.merge M]' '  -h, --help' '  --methods M  which.' ;;
    esac
}
"""


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["maskrobust", ""], ["fit", "evaluate"]),
        (["maskrobust", "e"], ["evaluate"]),
        (["maskrobust", "evaluate", "--m"], ["--methods", "--model.merge"]),
        (["maskrobust", "evaluate", "--h"], ["--help"]),
        (["maskrobust", "evaluate", "--methods", "bl"], []),
    ],
    ids=" ".join,
)
def test_the_function_of_the_page_completes(typed, offered):
    (function,) = (block.text for block in blocks(ROOT / "docs" / "completion.md") if block.language == "sh")
    asked = 'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _maskrobust; printf "%s\\n" "${COMPREPLY[@]}"'
    command = ["bash", "-c", STAND_IN + function + asked, "bash", *typed]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert (done.stdout.split(), done.stderr) == (offered, "")


PAGE = (ROOT / "docs" / "ignore-a-region.md").read_text(encoding="utf-8")


def test_the_code_of_the_page_runs_and_its_comments_name_the_shapes():
    names: dict[str, object] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for block in re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE):
            exec(block, names)
            for name, shape in re.findall(r"^(\w+) = .*# \((\d+(?:, \d+)+)\)", block, flags=re.MULTILINE):
                assert str(tuple(names[name].shape)) == f"({shape})"  # type: ignore[attr-defined]
    visible, proposals = names["visible"], names["proposals"]
    assert 0 < visible.sum() < visible.numel()
    assert {*proposals} == {"features", "objectness", "boxes"}
    assert names["coverage"].amax() < 1  # squeeze-and-excitation


@pytest.fixture(scope="module")
def study():
    return script("dense_holes")


def test_every_method_is_measured_and_an_interrupted_study_goes_on(study, tmp_path, capsys, monkeypatch):
    out = tmp_path / "errors.json"
    threads, arguments = torch.get_num_threads(), ["--steps", "2", "--scenes", "8", "--out", str(out)]
    study.main(["--seeds", "1", *arguments])
    measured: list[int] = []
    run = study.run
    monkeypatch.setattr(study, "run", lambda seed, *rest: measured.append(seed) or run(seed, *rest))
    first = json.loads(out.read_text(encoding="utf-8"))["seeds"]
    capsys.readouterr()
    study.main(["--seeds", "2", *arguments])
    torch.set_num_threads(threads)
    assert measured == [1]
    results = json.loads(out.read_text(encoding="utf-8"))["seeds"]
    assert len(results) == 2 and results[:1] == first
    assert {*results[0]["trained with holes"]} == {*study.METHODS}
    assert {*results[1]["trained on whole scenes"]} == {*study.METHODS, "nothing hidden"}
    table = out.with_suffix(".md").read_text(encoding="utf-8")
    rows = 2 * len(study.METHODS) * len(study.BINS) + 1
    assert table in capsys.readouterr().out and table.count("\n| trained") == rows
    with pytest.raises(SystemExit, match="other steps or scenes"):
        study.main(["--seeds", "3", "--steps", "3", "--scenes", "8", "--out", str(out)])


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


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_was_run_in_order(path):
    assert path.stat().st_size < 250_000
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert cells[0]["cell_type"] == "markdown" and cells[0]["source"][0].startswith("# ")
    counts = [cell["execution_count"] for cell in cells if cell["cell_type"] == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert len({cell["id"] for cell in cells}) == len(cells)
