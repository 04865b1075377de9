"""The benchmarks run, count what they say they count, and write what they print."""

import itertools
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

import masking
from counting import count
from masking import COMMON_MASKS
from tests.processes import started

BENCHMARKS = Path(__file__).parents[2] / "scripts" / "benchmarks"


def bench(arguments):
    """`scripts/bench` in this process, on the CPU, one round, without what keeps `.venv` in step."""
    sys.argv = [str(BENCHMARKS), *arguments, "--device=cpu", "--rounds=1"]
    runpy.run_path(str(BENCHMARKS), run_name="__main__")


def bench_small_images(arguments):
    """The same with images of 64 pixels for those of 224."""
    masking.IMAGE_SIZE = 64
    bench(arguments)


def rows_of(part, path):
    content = json.loads(path.read_text())
    assert content.keys() == {"machine", "torch", part}
    rows: list[dict[str, Any]] = content[part]["rows"]
    return rows


def test_masking_has_a_row_for_each_network_mode_mask_and_padding(tmp_path, monkeypatch):
    path = tmp_path / "bench.json"
    monkeypatch.setenv("COLUMNS", "200")
    arguments = ["masking", "--networks=[small_resnet]", "--batch=1", "--precision=32", f"--json={path}"]
    with started(bench_small_images, arguments, output=tmp_path / "printed") as process:
        assert process.wait() == 0
    rows, printed = rows_of("masking", path), (tmp_path / "printed").read_text()
    assert [(row["mode"], row["mask"], row["padding"]) for row in rows] == [
        *itertools.product(("eval", "training step"), COMMON_MASKS, ("mean", "mirror"))
    ]
    assert all(row["time"] > 0 and row["memory"] > 0 and row["plain_seconds"] > 0 for row in rows)
    assert {(row["mode"], row["sensitivity"]) for row in rows} == {("eval", 0.0), ("training step", None)}
    assert all((row["over_folded"] or 0) > 0 for row in rows if row["mode"] == "eval")
    assert "small_resnet" in printed and str(path) in printed


@pytest.mark.parametrize(
    ("network", "most_eval", "most_training"), [("resnet18", 1.25, 1.4), ("mobilenet_v3_large", 1.25, 1.4)]
)
def test_a_pass_on_a_gpu_would_take_little_more_bytes_and_kernels_and_never_wait(network, most_eval, most_training):
    pytest.importorskip("triton")
    for train, most in ((False, most_eval), (True, most_training)):
        plain, by_torch, by_kernels, *synchronised = rows = [*count(network, batch=1024, size=112, train=train)]
        assert not any(row["waits"] for row in rows)
        assert len(synchronised) == train
        for row in synchronised:
            assert row["saved"] == by_kernels["saved"] < 1.15 * plain["saved"]
            assert row["gigabytes"] < 1.01 * by_kernels["gigabytes"]
        assert by_kernels["over_plain"] <= most < by_torch["over_plain"]
        assert by_kernels["kernels"] < by_torch["kernels"] / 2.5
