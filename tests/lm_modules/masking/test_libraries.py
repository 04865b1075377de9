"""Networks that people have from Ultralytics, transformers and MONAI, each in the version that is installed."""

import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import require_component
from tests.lm_modules.masking.libraries import ROOT

COUNTS = {"ultralytics": 7, "transformers": 8, "monai": 7}


@cache
def results_of(library):
    folder = Path(sys.prefix) / library
    command = [sys.executable, "-m", "tests.lm_modules.masking.libraries", str(folder), library]
    with tempfile.TemporaryDirectory() as settings:  # or Ultralytics writes them into the home folder
        environment = {**os.environ, "YOLO_CONFIG_DIR": settings}
        found = subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout.splitlines()[-1])


@pytest.fixture(params=COUNTS)
def library(request):
    folder = Path(sys.prefix) / request.param
    none = "" if request.param == "transformers" else "--no-deps "
    require_component(
        folder / request.param, f"{sys.executable} -m pip install {none}--target {folder} {request.param}"
    )
    return request.param


def test_networks_ignore_hidden_pixels_equal_the_plain_ones_with_nothing_hidden_and_train(library):
    results = {name: each for name, each in results_of(library).items() if "training" in each}
    assert len(results) == COUNTS[library]
    failed = {name: each for name, each in results.items() if not all(each.values())}
    assert not failed
    page = (ROOT / "docs" / "libraries.md").read_text(encoding="utf-8")
    assert not [name for name in results if name.partition(",")[0] not in page]


@pytest.mark.parametrize("library", ["ultralytics"], indirect=True)
def test_a_masked_yolo_finds_no_box_in_a_hidden_half_and_equals_yolo_with_nothing_hidden(library):
    found = [each for name, each in results_of(library).items() if name.startswith("boxes")]
    assert len(found) == 2
    for each in found:
        assert each["equal"] and each["each"] and each["coverage"] and each["frame"] and each["found"] > 10
        assert each["hidden without"] > 10 and each["hidden"] <= 1  # a box of which just half is visible


@pytest.mark.parametrize("library", ["ultralytics"], indirect=True)
def test_a_masked_yolo_heeds_no_hidden_pixel_answers_each_image_alone_and_has_no_loss_at_hidden_anchors(library):
    found = [each for name, each in results_of(library).items() if name.startswith("detector")]
    assert len(found) == 2
    for each in found:
        assert each["hidden pixels"] and each["alone"] and each["visible"] >= 0.5 - 1e-6
        assert min(each["found"][:2]) > 10 and each["found"][2] == 0
        assert each["losses"][0] == pytest.approx(each["losses"][1], rel=1e-5) and min(each["losses"][0]) > 0
        assert each["of three"][0] == each["of three"][1]
    refused = [sentence for each in found for sentence in each["refused"]]
    for sentence, named in zip(refused, ("get_cfg", "finds boxes alone", "get_cfg", "end2end = False"), strict=True):
        assert named in sentence


@pytest.mark.parametrize("library", ["transformers"], indirect=True)
def test_a_detr_answers_an_image_in_a_batch_of_several_sizes_as_if_it_were_alone(library):
    found = [each for name, each in results_of(library).items() if name.startswith("batch")]
    assert len(found) == 4
    for each in found:
        assert each["plain"] > 0.03 and each["masked"] < 1e-4


@pytest.mark.parametrize("library", ["monai"], indirect=True)
def test_the_padding_of_a_sliding_window_is_hidden(library):
    assert all(results_of(library)["windows"].values())
