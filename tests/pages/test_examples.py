"""What pages give to run beside commands: code, studies and notebooks."""

import copy
import json
import re
from itertools import combinations, product

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from maskrobust.augment import patches
from maskrobust.lm_modules.networks.architectures import build_network
from tests.pages.commands import script
from tests.pages.gallery import PICTURES, draw
from tests.pages.notebooks import run
from tests.test_house import ROOT

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


@pytest.fixture(scope="module")
def small_data():
    module = script("small_data")
    module.IMAGE_SIZE, module.PATCH_SIZE = 32, 8
    return module


def write_few(folder, seed):
    rng = np.random.default_rng(seed)
    for split, count in {"train": 8, "val": 4, "test": 8}.items():
        for number in range(count):
            path = folder / split / ("bird", "cat")[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (128, 128, 3), dtype=np.uint8)).save(path)


def test_the_study_trains_three_ways_and_an_interrupted_one_goes_on(small_data, tmp_path, monkeypatch):
    monkeypatch.setattr(small_data, "write_images", write_few)
    threads, out = torch.get_num_threads(), tmp_path / "out"
    options = ["--epochs=1", "--model=--model.architecture=small_resnet --model.new_head=false"]
    small_data.main([str(out), "--seeds=1", *options])
    (out / "runs" / "no_masks-1" / "version_0").mkdir(parents=True)  # of a training that was killed
    calls: list[list[str]] = []
    command = small_data.maskrobust
    monkeypatch.setattr(small_data, "maskrobust", lambda arguments: calls.append(arguments) or command(arguments))
    small_data.main([str(out), "--seeds=2", *options])
    torch.set_num_threads(threads)
    assert [call[0] for call in calls] == ["fit", "fit", "fit", "evaluate"]
    words = [str(call).replace(str(out), "") for call in calls]
    assert all("-1" in each and "-0" not in each for each in words)
    table = (out / "small_data.md").read_text(encoding="utf-8").splitlines()
    assert len(table) == 2 + len(small_data.ARMS) * len(small_data.METHODS) * 3
    assert sum("±" in line for line in table) == len(table) - 2 - 3  # all but the reference itself


def test_differences_are_paired_by_seed_and_their_interval_is_students(small_data):
    rng = np.random.default_rng(0)
    results = [
        {(arm, method): rng.random(3).tolist() for arm in small_data.ARMS for method in small_data.METHODS}
        for _ in range(5)
    ]
    (line,) = (
        each
        for each in small_data.table(results).splitlines()
        if each.startswith("| layer masking | layer masking | half")
    )
    ours = [100 * (each["layer masking", "layer_masking"][2] - each["no masks", "mean"][2]) for each in results]
    low, high = stats.ttest_1samp(ours, 0).confidence_interval()
    assert line.endswith(f" | {np.mean(ours):+.1f} ± {(high - low) / 2:.1f} |")


@pytest.fixture(scope="module")
def pretraining_study():
    return script("pretraining_study")


@pytest.mark.parametrize("training", [False, True])
def test_zeros_in_each_layer_are_a_network_whose_features_are_multiplied_by_the_mask_of_patches(
    pretraining_study, training
):
    torch.manual_seed(0)
    network = build_network("small_resnet", 4).double().train(training)
    images = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    visible = patches(torch.arange(3), 32, 32, hidden_fraction=(0.6, 0.6), patch_size=8)
    twin = copy.deepcopy(network)
    found = pretraining_study.masking(network, "zeros")(torch.where(visible, images, torch.nan), visible)

    def seen(features):
        step = 32 // features.shape[2]
        return visible[:, :, ::step, ::step].expand_as(features)

    def multiply(_module, _inputs, features):
        return features * seen(features)

    def of_visible(module, inputs, _features):
        (features,) = inputs
        moments = [
            (channel[shown].mean(), channel[shown].var(correction=0)) if training else (mean, variance)
            for channel, shown, mean, variance in zip(
                features.transpose(0, 1),
                seen(features).transpose(0, 1),
                module.running_mean,
                module.running_var,
                strict=True,
            )
        ]
        mean, variance = (torch.stack(each)[:, None, None] for each in zip(*moments, strict=True))
        scale, shift = module.weight[:, None, None], module.bias[:, None, None]
        return ((features - mean) / (variance + module.eps).sqrt() * scale + shift) * seen(features)

    for module in twin.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(multiply)
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(of_visible)
    twin.avgpool.register_forward_hook(lambda _, inputs, pooled: pooled / seen(inputs[0]).double().mean((2, 3), True))
    assert torch.allclose(found, twin(images * visible), atol=1e-10)


def test_the_study_of_pre_training_asks_each_encoder_and_goes_on(pretraining_study, tmp_path, monkeypatch):
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    cv2.imwrite(str(photographs / "scene.png"), np.random.default_rng(0).integers(0, 255, (80, 120, 3), np.uint8))
    monkeypatch.setattr(pretraining_study, "ENCODERS", ("none", "zeros", "mean"))
    plan = tuple(each for each in pretraining_study.PLAN if "partial" not in each[0])
    changes = {"PLAN": plan, "PROBED": 100, "TESTED": 60, "SCENES": 30}
    changes["LABELS"] = {"1 % of labels": (20, 1), "10 % of labels": (20, 1)}
    for name, value in changes.items():
        monkeypatch.setattr(pretraining_study, name, value)
    threads = torch.get_num_threads()
    options = [str(tmp_path), f"--photographs={photographs}", "--networks=resnet", "--images=100", "--epochs=1"]
    pretraining_study.main([*options, "--seeds=2"])
    outlines = pretraining_study.run("resnet", tmp_path, photographs, 0, 100, 1, outlines=True)
    monkeypatch.setattr(pretraining_study, "run", None)
    pretraining_study.main([*options, "--seeds=2"])
    torch.set_num_threads(threads)
    table = (tmp_path / "resnet.md").read_text(encoding="utf-8").splitlines()
    assert sum("±" in line for line in table) == 1 + 4 * 3 + 2 * 3 + len(plan)
    for encoder, padding in product(("none", "zeros", "mean"), ("zeros", "mean")):
        by_outline, by_circle, carried = (
            outlines[f"{encoder}, {each} under {padding}"] for each in ("outline", "circle", "carried")
        )
        assert 0 <= by_circle <= 1 and carried == by_outline - by_circle
    others = {name: number + 0.01 * place for place, (name, number) in enumerate(outlines.items())}
    assert pretraining_study.table([outlines, others], outlines=True).count("- none |") == 1


@pytest.mark.parametrize("network", ["resnet", "mobilenet"])
def test_partial_convolution_is_trained_like_any_other_padding(pretraining_study, network):
    encoder = pretraining_study.encoder_of(network, 4)
    images = torch.randn(2, 3, 64, 64)
    visible = patches(torch.arange(2), 64, 64, hidden_fraction=(0.6, 0.6), patch_size=8)
    pretraining_study.masking(encoder, "partial")(images, visible).sum().backward()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in encoder.parameters())
    encoder.eval()
    found = [pretraining_study.masking(encoder, each)(images, visible) for each in ("partial", "zeros", "mean")]
    assert not any(torch.allclose(*pair, rtol=0.01, atol=0) for pair in combinations(found, 2))


def test_features_are_like_their_own_object(pretraining_study):
    objects = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    assert pretraining_study.likeness(objects + 3, objects) > 0.9
    assert abs(pretraining_study.likeness(objects.flip(0), objects)) < 0.1


def test_the_study_of_solar_cells_tunes_on_each_number_of_labels_and_goes_on(tmp_path, monkeypatch):
    study, rng, lines = script("solar_cells"), np.random.default_rng(0), []
    (tmp_path / "images").mkdir()
    for index in range(60):
        is_defective = index % 3 == 0
        cell = rng.integers(60 if is_defective else 120, 200, (90, 90), np.uint8)
        cv2.imwrite(str(tmp_path / "images" / f"{index}.png"), cell)
        lines.append(f"images/{index}.png  {float(is_defective)}  mono")
    (tmp_path / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.setattr(study, "TESTED", 30)
    monkeypatch.setattr(study, "LABELLED", {12: 1, None: 8})
    threads, options = torch.get_num_threads(), [str(tmp_path / "out"), f"--cells={tmp_path}", "--epochs=1"]
    study.main([*options, "--seeds=2"])
    monkeypatch.setattr(study, "run", None)
    study.main([*options, "--seeds=2"])
    torch.set_num_threads(threads)
    rows = (tmp_path / "out" / "solar_cells.md").read_text(encoding="utf-8").splitlines()[2:]
    assert [row.split(" |")[0] for row in rows] == ["| 12 labels", "| 30 labels"]
    found = json.loads((tmp_path / "out" / "seed-0.json").read_text(encoding="utf-8"))
    assert found["random weights, 30 labels"] > 0.9  # cells with a defect are darker
