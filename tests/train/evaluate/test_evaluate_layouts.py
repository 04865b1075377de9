"""`maskrobust evaluate` on images for evaluation alone: from raw files of each layout to rows and page."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from maskrobust.lm_modules.networks.architectures import SmallResNet
from maskrobust.lm_modules.reliance.plan import INVERTED, WITHOUT_OBJECTS
from maskrobust.train.cli import main
from maskrobust.train.data import Cues, Folder, ImagesWithMasks
from maskrobust.train.evaluate.config import QUICK as QUICK_LEFT_OUT, parse_config
from tests.train.data.files.test_evaluation_images import LAYOUTS, SMALL
from tests.train.data.layouts import IMAGES, write_pairs
from tests.train.evaluate.test_evaluate import rows_of
from tests.train.report.pages import Page, squeezed
from tests.train.test_cli import sentence_of
from tests.train.tiny import FEW_MEASURES, TINY_DATA

QUICK = [*FEW_MEASURES, "--methods=[black]"]


def evaluate(data, options, folder, *others):
    """Arguments that measure a network of random weights on data made with these options."""
    torch.manual_seed(0)
    torch.save(SmallResNet(data.num_classes).state_dict(), folder / "weights.pt")
    given = [f"--data.{name}={value}" for name, value in options.items()]
    run = [f"--network=small_resnet:{folder / 'weights.pt'}", *QUICK, f"--out={folder / 'out'}"]
    return ["evaluate", f"--data={type(data).__name__}", *given, *run, *others]


def settings_of(out):
    settings: dict[str, Any] = json.loads((out / "reliance.json").read_text())["settings"]
    return settings


@pytest.mark.parametrize("name", ["pairs", "imagenet_s"])
def test_a_layout_is_measured_from_its_files_to_the_page(name, tmp_path):
    kind, write = LAYOUTS[name]
    options = {**write(tmp_path), **SMALL}
    data = kind(**options)  # type: ignore[arg-type]
    main(evaluate(data, options, tmp_path))
    (clean,) = rows_of(tmp_path / "out", measure="clean_accuracy")
    (leak,) = rows_of(tmp_path / "out", measure="silhouette_leak")
    assert clean.images == leak.images == IMAGES


def test_images_without_object_masks_keep_every_number_that_needs_none(tmp_path, monkeypatch, capsys):
    """Accuracies do not change; with the full plan the rest of the outlines is left out, which one line says."""
    write_pairs(tmp_path, by_class=True)
    for split in ("images", "masks"):
        (tmp_path / split).rename(tmp_path / "val")
        (tmp_path / split).mkdir()
        (tmp_path / "val").rename(tmp_path / split / "val")
    said: list[str] = []
    monkeypatch.setattr("maskrobust.train.evaluate.measure.rank_zero_info", said.append)
    rows = {}
    for name, masks in (("with", {"mask_root": str(tmp_path / "masks")}), ("without", {})):
        options = {"root": str(tmp_path / "images"), **masks, **SMALL}
        asked = ["--plan.curve_families=[patches]", "--plan.curve_fractions=[0, .5]"]
        asked += ["--plan.transfer_families=[rectangles, silhouettes]", "--plan.scenes=4", f"--out={tmp_path / name}"]
        main(evaluate(Folder(**options), options, tmp_path, *asked))
        rows[name] = {(row.method, row.name): row for row in rows_of(tmp_path / name)}
    measures = {row.measure for row in rows["without"].values()}
    assert {"clean_accuracy", "retention", "curve_accuracy", "transfer_accuracy"} <= measures
    assert not measures & {"silhouette_leak", "shape_choice"}
    assert all(rows["without"][key] == rows["with"][key] for key in rows["without"])
    assert said == [f"val: {WITHOUT_OBJECTS}"]
    page = Page((tmp_path / "without" / "report.html").read_text())
    assert page.texts["headline"].startswith("weights.pt is at chance with nothing hidden")
    assert squeezed(page.texts["headline"]) in squeezed(capsys.readouterr().out)
    assert settings_of(tmp_path / "without")["left_out"] == [WITHOUT_OBJECTS]


def test_a_quick_look_asks_about_images_spread_over_the_split_and_says_what_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr("maskrobust.train.evaluate.measure.QUICK_IMAGES", 8)
    options = {**TINY_DATA, "batch_size": 2}
    others = ["--quick", "--predictions=true"]
    asked = [each for each in evaluate(Cues(**options), options, tmp_path, *others) if "_families" not in each]
    main(asked)
    clean = rows_of(tmp_path / "out", measure="clean_accuracy")
    assert [row.images for row in clean] == [8]
    lines = (tmp_path / "out" / "predictions.csv").read_text().splitlines()[1:]
    first = Cues(**options)
    first.setup("test")
    ids = [int(each) for batch in [*first.test_dataloader()][::3] for each in batch.ids]
    assert sorted({int(line.split(",")[0]) for line in lines}) == sorted(ids)
    assert not {row.measure for row in rows_of(tmp_path / "out")} & {
        "curve_accuracy",
        "transfer_accuracy",
        "outline_pull",
    }
    settings = settings_of(tmp_path / "out")
    assert settings["left_out"] == [QUICK_LEFT_OUT]
    assert QUICK_LEFT_OUT[1:] in (tmp_path / "out" / "report.html").read_text()
    assert parse_config([*asked[1:], "--data.batch_size=600"]).data.batch_size == 512  # whole batches are asked about
    as_told = parse_config([*asked[1:], "--plan.scenes=3"]).plan
    assert as_told.scenes == 3 and as_told.curve_families == ()


@pytest.mark.parametrize("inverted", [False, True])
def test_masks_that_seem_inverted_are_asked_about(inverted, tmp_path, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr("maskrobust.train.evaluate.measure.rank_zero_warn", said.append)
    options = {**write_pairs(tmp_path, by_class=True), **SMALL}
    for path in (tmp_path / "masks").rglob("*.png") if inverted else ():
        Image.fromarray(~np.asarray(Image.open(path)).astype(np.bool_)).save(path)
    main(evaluate(ImagesWithMasks(**options), options, tmp_path))
    assert said == [INVERTED] * inverted


@pytest.mark.parametrize("command", [["masks"], ["evaluate", "--network=resnet18:random"]], ids=lambda words: words[0])
def test_what_needs_labels_refuses_images_without(command, tmp_path, capsys):
    write_pairs(tmp_path)
    arguments = [*command, "--data=Images", f"--data.root={tmp_path / 'images'}", f"--out={tmp_path / 'out'}"]
    assert f"{command[0]} needs images with labels, but these have none" in sentence_of(arguments, capsys)
