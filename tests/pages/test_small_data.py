"""The study of docs/small_data.py: it trains and asks three ways, goes on, and states intervals over seeds."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from tests.pages.commands import script


@pytest.fixture(scope="module")
def study():
    return script("small_data")


def write_few(folder, seed):
    rng = np.random.default_rng(seed)
    for split, count in {"train": 8, "val": 4, "test": 8}.items():
        for number in range(count):
            path = folder / split / ("bird", "cat")[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (128, 128, 3), dtype=np.uint8)).save(path)


def test_the_study_trains_three_ways_and_an_interrupted_one_goes_on(study, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "write_images", write_few)
    threads, out = torch.get_num_threads(), tmp_path / "out"
    options = ["--epochs=1", "--model=--model.architecture=small_resnet --model.new_head=false"]
    study.main([str(out), "--seeds=1", *options])
    (out / "runs" / "no_masks-1" / "version_0").mkdir(parents=True)  # of a training that was killed
    calls: list[list[str]] = []
    command = study.maskrobust
    monkeypatch.setattr(study, "maskrobust", lambda arguments: calls.append(arguments) or command(arguments))
    study.main([str(out), "--seeds=2", *options])
    torch.set_num_threads(threads)
    assert [call[0] for call in calls] == ["fit", "fit", "fit", "evaluate"]
    assert all("-1" in str(call) and "-0" not in str(call) for call in calls)
    table = (out / "small_data.md").read_text(encoding="utf-8").splitlines()
    assert len(table) == 2 + len(study.ARMS) * len(study.METHODS) * 3
    assert sum("±" in line for line in table) == len(table) - 2 - 3  # all but the reference itself


def test_differences_are_paired_by_seed_and_their_interval_is_students(study):
    rng = np.random.default_rng(0)
    results = [
        {(arm, method): rng.random(3).tolist() for arm in study.ARMS for method in study.METHODS} for _ in range(5)
    ]
    (line,) = (
        each for each in study.table(results).splitlines() if each.startswith("| layer masking | layer masking | half")
    )
    ours = [100 * (each["layer masking", "layer_masking"][2] - each["no masks", "mean"][2]) for each in results]
    low, high = stats.ttest_1samp(ours, 0).confidence_interval()
    assert line.endswith(f" | {np.mean(ours):+.1f} ± {(high - low) / 2:.1f} |")
