"""The benchmark runs, counts what it says it counts, and writes what it prints."""

import itertools
import json
import sys
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from skimage.segmentation import slic

from maskrobust.train.bench.__main__ import main
from maskrobust.train.bench.augment import FAMILIES, HIDDEN, LAID_OUT, imputation, others, own_fills
from maskrobust.train.bench.explain import explainers
from maskrobust.train.bench.masking import COMMON_MASKS, SMALL_AREAS, draw_mask, visible_positions
from maskrobust.train.bench.shards import ALONE, BASELINE, OWN, bare_loader, shards_loader, write_photographs
from maskrobust.train.bench.sparse_imputation import impute_by_sparse_solve
from maskrobust.train.bench.suite import CASES, METHODS, Case, RecordedPasses, make_update
from maskrobust.train.bench.timing import alternate, count_waits, median_ratio, peak_memory
from tests.processes import started

CPU = torch.device("cpu")


def test_every_function_is_called_once_a_round_in_turn_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []
    seconds = alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3, torch.device("cpu"))
    assert calls == ["a", "b"] * 4
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}


def test_waits_are_counted_as_cuda_tells_them(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def step() -> None:
        warnings.warn("called a synchronizing CUDA operation", UserWarning, stacklevel=1)
        warnings.warn("something else", UserWarning, stacklevel=1)
        warnings.warn("called a synchronizing CUDA operation", UserWarning, stacklevel=1)

    assert count_waits(step, torch.device("cuda")) == 2
    assert modes == ["warn", "default"]
    with pytest.raises(ZeroDivisionError):
        count_waits(lambda: 1 / 0, torch.device("cuda"))
    assert modes[-1] == "default"
    assert count_waits(step, torch.device("cpu")) is None


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


SMALL = ["--networks", "squeezenet1_1", "--device", "cpu", "--batch", "1", "--augment-batch", "2", "--imputed", "1"]
SMALL += ["--rounds", "1", "--loaded", "12", "--loaded-batch", "4"]
SMALL += ["--suite-networks", "small_resnet", "--suite-batch", "2"]
SMALL += ["--evaluate-networks", "small_resnet", "--evaluated", "4", "--evaluated-batch", "4"]
SMALL += ["--explain-networks", "small_resnet", "--explain-size", "32", "--explain-masks", "52"]
SMALL += ["--error-images", str(Path(skimage.data.__file__).parent / "coffee.png"), "--error-size", "32"]
SMALL += ["--error-samples", "256", "--error-reference", "512", "--error-draws", "1"]


def test_the_masking_part_has_a_row_for_each_network_mode_and_mask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bench.json"
    monkeypatch.setenv("COLUMNS", "200")
    with started(main, ["masking", *SMALL, f"--json={path}"], output=tmp_path / "printed") as process:
        assert process.wait() == 0
    content, printed = json.loads(path.read_text()), (tmp_path / "printed").read_text()
    rows = content["masking"]["rows"]
    assert "augment" not in content
    assert [(row["mode"], row["mask"]) for row in rows] == [
        (mode, mask) for mode in ("eval", "training step") for mask in COMMON_MASKS
    ]
    assert all(row["time"] > 0 and row["memory"] > 0 and row["plain_seconds"] > 0 for row in rows)
    assert {(row["mode"], row["sensitivity"]) for row in rows} == {("eval", 0.0), ("training step", None)}
    assert "squeezenet1_1" in printed and str(path) in printed


def test_the_augment_part_has_a_row_for_each_method(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    main(["augment", *SMALL, f"--json={tmp_path / 'bench.json'}"])
    content, printed = json.loads((tmp_path / "bench.json").read_text()), capsys.readouterr().out
    rows = content["augment"]["rows"]
    assert "masking" not in content
    methods: dict[str, set[str]] = {}
    for row in rows:
        methods.setdefault(row["task"], set()).add(row["method"])
    assert set(methods) == {"mask", "mask and black fill", "fill", "linear imputation"}
    assert {row["pixels"] for row in rows} > {"uint8", "uint8, channels last"} and methods["fill"] == set(LAID_OUT)
    assert methods["mask"] - {"memory, written once"} == set(FAMILIES) < methods["mask and black fill"]
    assert all(row["microseconds"] > 0 and row["method"] in printed for row in rows)


def test_the_shards_part_loads_the_same_images_each_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["shards", *SMALL, f"--json={tmp_path / 'bench.json'}"])
    rows = json.loads((tmp_path / "bench.json").read_text())["shards"]["rows"]
    assert [row["method"] for row in rows] == [BASELINE, ALONE, OWN] and rows[0]["speed"] == 1.0
    assert all(row["speed"] > 0 and row["images_per_second"] > 0 for row in rows)
    assert OWN in capsys.readouterr().out


def test_both_loaders_of_shards_yield_crops_of_one_size_and_type(tmp_path: Path) -> None:
    write_photographs(tmp_path, 8)
    batch = next(iter(shards_loader(tmp_path, 4, 0)))
    images = next(iter(bare_loader(tmp_path, 4, 0, 2)))
    assert batch.images.shape == images.shape == (4, 3, 224, 224)
    assert batch.images.dtype == images.dtype == torch.uint8 and 50 < images.float().mean() < 200
    assert batch.object_mask.flatten(1).any(dim=1).sum() >= 3


def test_the_suite_part_has_a_row_for_each_method_and_case(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    main(["suite", *SMALL, f"--json={tmp_path / 'bench.json'}"])
    content, printed = json.loads((tmp_path / "bench.json").read_text()), capsys.readouterr().out
    rows = content["suite"]["rows"]
    assert [(row["method"], row["case"]) for row in rows] == [
        (method, case.name) for method in METHODS for case in CASES
    ]
    assert all(row["time"] > 0 and row["bare_seconds"] > 0 and row["case"] in printed for row in rows)
    assert all(row["forward_passes"] > 80 for row in rows if "curves" in row["case"])


def test_the_explain_part_has_a_row_for_each_method_and_explainer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    main(["explain", *SMALL, f"--json={tmp_path / 'bench.json'}"])
    content, printed = json.loads((tmp_path / "bench.json").read_text()), capsys.readouterr().out
    rows = content["explain"]["rows"]
    named = ["ask", "lime"]
    named += ["the package lime"] if find_spec("lime") else []
    named += ["Captum's Lime", "Captum's KernelShap"] if find_spec("captum") else []
    assert [(row["method"], row["explainer"]) for row in rows] == list(itertools.product(METHODS, named))
    assert all(row["time"] > 0 and row["bare_seconds"] > 0 and row["explainer"] in printed for row in rows)


def test_the_explain_error_part_compares_draws_with_a_reference_in_the_same_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    main(["explain_error", *SMALL, f"--json={tmp_path / 'bench.json'}"])
    content, printed = json.loads((tmp_path / "bench.json").read_text()), capsys.readouterr().out
    rows = content["explain_error"]["rows"]
    about = [(row["picture"], row["method"], row["segments"]) for row in rows]
    assert about == [*itertools.product(("coffee",), METHODS, ("slic", "patches"))]
    assert all(f"{error:.3f}" in printed for row in rows for error in row["errors"].values())
    errors = np.array([[*row["errors"].values()] for row in rows])  # 256 balanced; 256 and 512 independent
    assert (errors > 0).all() and (errors[:, 1] > errors[:, 2]).all()


def test_every_explainer_asks_about_as_many_masks_and_captum_anew_for_each_class() -> None:
    asked: list[int] = []

    def predict(images: torch.Tensor, visible: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        asked.append(len(images))
        return (images * visible).mean(dim=(2, 3)) * torch.tensor([1.0, 2.0, 3.0])

    with torch.random.fork_rng(devices=[]):
        for name, explain in explainers(predict, torch.rand(3, 32, 32), 52, 20).items():
            asked.clear()
            explain()
            assert asked == [20, 20, 12] * (3 if name.startswith("Captum") else 1), name


def test_the_bare_passes_are_those_of_the_suite() -> None:
    asked: list[tuple[int, torch.Tensor]] = []

    def predict(images: torch.Tensor, visible: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        asked.append((len(images), visible))
        return torch.zeros(len(images), 8)

    passes = RecordedPasses(predict, torch.zeros(3, 3, 8, 8))
    for count in (2, 7):
        passes(torch.rand(count, 3, 8, 8), torch.rand(count, 1, 8, 8) < 0.5, torch.arange(count))
    passes.repeat()
    assert [count for count, _ in asked] == [2, 7, 2, 7]
    assert all(torch.equal(before, after) for (_, before), (_, after) in zip(asked[:2], asked[2:], strict=True))


@pytest.mark.parametrize(("case", "segmented"), [(CASES[1], 4), (CASES[2], 0)])
def test_rounds_see_new_images_where_the_case_says_so(
    monkeypatch: pytest.MonkeyPatch, case: Case, segmented: int
) -> None:
    update, _ = make_update("small_resnet", "black", case, 2, CPU)
    calls = []
    monkeypatch.setattr(
        "skimage.segmentation.slic", lambda *args, **options: calls.append(args) or slic(*args, **options)
    )
    update()
    update()
    assert len(calls) == segmented


def test_an_unknown_part_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["maskin"])
    assert (
        "a part must be masking or augment or shards or suite or evaluate or explain or explain_error, got 'maskin'"
        in capsys.readouterr().err
    )


def test_every_method_hides_the_same_share_of_an_image() -> None:
    hidden: dict[str, list[float]] = {}
    for case in (*own_fills(2, CPU, FAMILIES), *others(2, CPU)):
        for _ in range(3):
            hidden.setdefault(case.method, []).extend(black_share(image) for image in case.function())
    assert len(hidden) == len(FAMILIES) + 4
    for method, shares in hidden.items():
        assert np.mean(shares) == pytest.approx(HIDDEN, abs=0.02), method


def black_share(image: Any) -> float:
    """Share of pixels that are 0 in all channels, whatever the library's form of an image."""
    pixels = image["image"] if isinstance(image, dict) else image.permute(1, 2, 0).numpy()
    return float((pixels == 0).all(axis=2).mean())


@pytest.mark.parametrize("hidden", [0.0, 0.3, 0.9])
def test_the_sparse_solver_makes_every_hidden_pixel_the_weighted_mean_of_its_neighbours(hidden: float) -> None:
    rng = np.random.default_rng(0)
    image, visible = rng.random((2, 9, 11)), rng.random((9, 11)) >= hidden
    filled = impute_by_sparse_solve(image, visible)
    assert np.array_equal(filled[:, visible], image[:, visible])
    for row, column in np.argwhere(~visible):
        total, weights = np.zeros(2), 0.0
        for down, across in itertools.product((-1, 0, 1), repeat=2):
            if (down, across) != (0, 0) and 0 <= row + down < 9 and 0 <= column + across < 11:
                weight = 1 / 6 if 0 in (down, across) else 1 / 12
                total += weight * filled[:, row + down, column + across]
                weights += weight
        assert filled[:, row, column] == pytest.approx(total / weights, abs=1e-12)


def test_both_ways_of_linear_imputation_agree_but_for_the_noise() -> None:
    own, scipy = imputation(1, CPU)
    difference = np.abs(own.function().numpy()[0] - scipy.function()[0])
    assert difference.mean() < 0.02


def hold_eight_million_floats_twice(told: Path) -> None:
    def make() -> Callable[[], torch.Tensor]:
        kept = torch.ones(8 << 20)
        return lambda: kept + 1

    told.write_text(str(peak_memory(make, CPU)))


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_peak_memory_counts_what_is_held_at_once(tmp_path: Path) -> None:
    """In a process that has computed nothing yet, as peak_memory asks for."""
    with started(hold_eight_million_floats_twice, tmp_path / "told") as process:
        assert process.wait() == 0
    assert 60 << 20 < int((tmp_path / "told").read_text()) < 110 << 20
