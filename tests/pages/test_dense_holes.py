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


def test_every_method_is_measured_and_an_interrupted_study_goes_on(
    study: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
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
