"""The study of docs/dense_holes.py: it runs, and measures every method."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests.test_house import ROOT


@pytest.fixture(scope="module")
def study() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dense_holes", ROOT / "docs" / "dense_holes.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_method_is_measured_with_and_without_training_with_holes(
    study: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    study.main(["--seeds", "2", "--steps", "2", "--scenes", "8", "--out", str(tmp_path / "errors.json")])
    torch.set_num_threads(threads)
    results = json.loads((tmp_path / "errors.json").read_text(encoding="utf-8"))
    assert len(results) == 2
    assert {*results[0]["trained with holes"]} == {*study.METHODS}
    assert {*results[1]["trained on whole scenes"]} == {*study.METHODS, "nothing hidden"}
    rows = 2 * len(study.METHODS) * len(study.BINS) + 1
    assert sum(line.startswith("| trained") for line in capsys.readouterr().out.splitlines()) == rows
