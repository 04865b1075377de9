"""The benchmark runs, counts what it says it counts, and writes what it prints."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from train.bench.masking import COMMON_MASKS, SMALL_AREAS, draw_mask, visible_positions
from train.bench.timing import alternate, median_ratio


def test_every_function_is_called_once_a_round_in_turn_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []
    seconds = alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3, torch.device("cpu"))
    assert calls == ["a", "b"] * 4
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}


def test_the_ratio_is_the_median_of_those_within_a_round() -> None:
    assert median_ratio([2.0, 30.0, 9.0], [1.0, 10.0, 9.0]) == 2.0


@pytest.mark.parametrize(
    ("mask", "shown"),
    list(zip(COMMON_MASKS + SMALL_AREAS, (1.0, 0.75, 0.5, 80 * 80 / 224**2, 0.1), strict=True)),
)
def test_masks_show_what_their_names_say(mask: str, shown: float) -> None:
    assert draw_mask(mask, 2).shape == (2, 1, 224, 224)
    assert draw_mask(mask, 2).double().mean().item() == pytest.approx(shown, abs=0.01)


def test_more_is_visible_inside_than_in_the_image_but_not_everything() -> None:
    assert 0.1 < visible_positions("squeezenet1_1", draw_mask("a tenth of the patches", 1)) < 0.9


def test_an_unknown_mask_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^there is no mask 'hole'; name one of all visible, "):
        draw_mask("hole", 1)


def test_the_benchmark_prints_and_writes_a_row_for_each_network_mode_and_mask(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    command = [sys.executable, "-m", "train.bench", "--networks", "squeezenet1_1", "--device", "cpu"]
    command += ["--batch", "1", "--rounds", "1", f"--json={path}"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = json.loads(path.read_text())["rows"]
    assert [(row["mode"], row["mask"]) for row in rows] == [
        (mode, mask) for mode in ("eval", "training step") for mask in COMMON_MASKS
    ]
    assert all(row["time"] > 0 and row["memory"] > 0 and row["plain_seconds"] > 0 for row in rows)
    assert "squee" in printed and str(path) in printed


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_peak_memory_counts_what_is_held_at_once() -> None:
    program = """
import torch
from train.bench.timing import peak_memory

def make():
    kept = torch.ones(8 << 20)
    return lambda: kept + 1

print(peak_memory(make, torch.device("cpu")))
"""
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert 60 << 20 < int(result.stdout) < 110 << 20
