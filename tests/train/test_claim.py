import itertools
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from maskrobust.lm_modules.reliance.results import Row, select
from maskrobust.train.claim.config import fingerprint
from maskrobust.train.cli import main
from tests.train.data.conftest import write_fashion_files
from tests.train.tiny import TINY_DATA, tiny_claim

MEASURES = (
    "clean_accuracy",
    "retention",
    "silhouette_accuracy",
    "circle_accuracy",
    "silhouette_leak",
    "swap_pull",
)


def run(config: Path, out: Path) -> dict[str, Any]:
    main(["claim", f"--config={config}", f"--out={out}"])
    content: dict[str, Any] = json.loads((out / "claim.json").read_text())
    return content


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """A tiny claim run once: its configuration, its folder and its claim.json."""
    folder = tmp_path_factory.mktemp("claim")
    config = tiny_claim("claim_cues.yaml", folder / "claim.yaml")
    return config, folder / "out", run(config, folder / "out")


def test_every_arm_method_and_seed_has_rows_with_intervals(undisturbed: tuple[Path, Path, dict[str, Any]]) -> None:
    claim = undisturbed[2]
    assert len(claim["arms"]) == 4 and claim["methods"] == ["black", "mean", "layer_masking"]
    rows = [Row(**row) for row in claim["rows"]]
    for arm, method, seed in itertools.product(claim["arms"], claim["methods"], (None, 1, 2)):
        found = {row.measure: row for row in select(rows, network=arm, method=method, seed=seed, compared_with="")}
        for name in MEASURES:
            assert found[name].low <= found[name].value <= found[name].high, name
        share = found["used_share"]
        assert (share.value is None) == (share.undefined_because is not None)


def test_hidden_pixels_do_not_matter_to_layer_masking_or_plain_fills(
    undisturbed: tuple[Path, Path, dict[str, Any]],
) -> None:
    rows = [row for row in undisturbed[2]["rows"] if row["measure"] == "hidden_pixel_sensitivity"]
    assert {row["value"] for row in rows} == {0.0}


def test_the_report_is_written_beside_the_numbers(undisturbed: tuple[Path, Path, dict[str, Any]]) -> None:
    page = (undisturbed[1] / "report.html").read_text()
    assert undisturbed[2]["verdict"]["reason"].split("'")[0] in page


def test_a_second_call_trains_and_measures_nothing_again(undisturbed: tuple[Path, Path, dict[str, Any]]) -> None:
    config, out, before = undisturbed
    written = {path: path.stat().st_mtime_ns for path in (out / "arms").rglob("*") if path.is_file()}
    after = run(config, out)
    assert {path: path.stat().st_mtime_ns for path in (out / "arms").rglob("*") if path.is_file()} == written
    assert after["rows"] == before["rows"]
    assert after["verdict"] == before["verdict"]


def test_missing_outcomes_are_measured_again_without_training(
    undisturbed: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    config, finished, before = undisturbed
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    run_folder = out / "arms" / "patches_mean" / "seed-1"
    trained = (run_folder / "training.json").stat().st_mtime_ns
    (run_folder / "outcomes-mean.npz").unlink()
    (out / "probe" / "outcomes.npz").unlink()
    assert run(config, out)["rows"] == before["rows"]
    assert (run_folder / "outcomes-mean.npz").exists()
    assert (run_folder / "training.json").stat().st_mtime_ns == trained


def test_weights_may_go_once_their_network_is_measured(
    undisturbed: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    config, finished, before = undisturbed
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    for weights in out.rglob("weights.safetensors"):
        weights.unlink()
    assert run(config, out)["rows"] == before["rows"]
    assert list(out.rglob("weights.safetensors")) == []


@pytest.mark.parametrize("name", ["arms/no_masks/seed-1/outcomes-black.npz", "probe/outcomes.npz"])
def test_a_damaged_file_is_named_with_its_remedy(
    undisturbed: tuple[Path, Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    config, finished, _ = undisturbed
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    (out / name).write_bytes((out / name).read_bytes()[:100])
    with pytest.raises(SystemExit):
        main(["claim", f"--config={config}", f"--out={out}"])
    (sentence,) = capsys.readouterr().err.strip().splitlines()
    assert name in sentence and "delete it to have it made again" in sentence


def test_another_configuration_is_refused_in_the_same_folder(
    undisturbed: tuple[Path, Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_claim("claim_cues.yaml", tmp_path / "claim.yaml", training={"epochs": 2})
    with pytest.raises(SystemExit):
        main(["claim", f"--config={config}", f"--out={undisturbed[1]}"])
    assert "another configuration" in capsys.readouterr().err


def test_a_killed_claim_resumes_to_the_same_numbers(
    undisturbed: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    config, _, expected = undisturbed
    out = tmp_path / "out"
    command = [sys.executable, "-m", "maskrobust.train.cli", "claim", f"--config={config}", f"--out={out}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    try:
        while len(list(out.glob("arms/*/*/evaluation.json"))) < 2:
            assert process.poll() is None, "the claim ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait(timeout=20)
    assert not (out / "claim.json").exists()
    assert run(config, out)["rows"] == expected["rows"]


def test_the_claim_on_garments_runs(tmp_path: Path) -> None:
    garments = write_fashion_files(tmp_path / "garments", train=200, test=40)
    data = {"class_path": "Fashion", "init_args": {**TINY_DATA, "root": str(garments)}}
    config = tiny_claim("claim_fashion.yaml", tmp_path / "claim.yaml", seeds=[0], data=data)
    assert run(config, tmp_path / "out")["seeds"] == [0]


def test_fingerprints_tell_contents_apart_and_ignore_order() -> None:
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": 1, "b": [1, 2]}) != fingerprint({"a": 1, "b": [2, 1]})
