"""The page on masks and fills: its code runs, and its tables hold every name."""

import re

import pytest
import yaml

from maskrobust.augment import FAMILIES, FILLS, OTHER_IMAGE, build_family, read_families
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from tests.pages.commands import blocks
from tests.test_house import ROOT

PAGE = ROOT / "docs" / "masks.md"


def blocks_in(language):
    return [block.text for block in blocks(PAGE) if block.language == language]


def rows(head):
    text, *_ = re.findall(
        rf"^\| {head} \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


@pytest.mark.usefixtures("registries")
def test_the_code_runs():
    program = {"__name__": "my_masks"}
    for block in blocks_in("python"):
        exec(block, program)
    family, filled = build_family("stripes", hidden_fraction=(0.5, 0.5)), FILLS["grey"]
    batch, keys = program["batch"], program["keys"]
    assert (family(keys, batch).double().mean(dim=(1, 2, 3)) - 0.5).abs().max() < 0.1
    assert filled.options == {"value": 0.5}
    visible, image = program["visible"], program["image"]
    assert tuple(visible.shape) == (1, 32, 32) and tuple(image.shape) == (3, 32, 32)
    assert 0 < (~visible).sum() < 32 * 32


def test_every_family_is_listed():
    assert [name for row in rows("family") for name in row[0].split(", ")] == list(FAMILIES)


def test_every_fill_is_listed_with_what_it_knows():
    assert [row[0] for row in rows("fill")] == [*FILLS, OTHER_IMAGE]
    assert {row[0] for row in rows("fill") if row[2] == "yes"} == {
        name for name, entry in FILLS.items() if entry.looks_into_hole
    }


def test_the_configuration_is_one_of_the_classifier():
    first, *_ = [yaml.safe_load(block)["model"] for block in blocks_in("yaml")]
    options = first | {"hidden_fraction": (0.1, 0.9), "architecture_options": {"width": 16}}
    assert MaskRobustClassifier(num_classes=2, **options).hparams["mask_probability"] == 0.5
    assert len(read_families(first["mask_family"])) == 3


def test_the_options_of_every_family_are_listed():
    listed = {name: options.split(", ") for names, options in rows(r"family \| options") for name in names.split(", ")}
    assert listed == {name: list(entry.options) for name, entry in FAMILIES.items() if entry.options}
