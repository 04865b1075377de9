"""The page on masks and fills: its code runs, and its tables hold every name."""

import re
from pathlib import Path

import pytest
import yaml

from maskrobust.augment import FAMILIES, LOOKS_INTO_HOLE, TRAINING_FILLS
from maskrobust.lm_modules.classifier import MaskRobustClassifier

PAGE = (Path(__file__).parents[2] / "docs" / "masks.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)


def rows(head: str) -> list[list[str]]:
    (text,) = re.findall(rf"^\| {head} \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, flags=re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
def test_the_code_runs() -> None:
    program: dict[str, object] = {}
    for block in blocks("python"):
        exec(block, program)
    visible, image = program["visible"], program["image"]
    assert tuple(visible.shape) == (1, 32, 32) and tuple(image.shape) == (3, 32, 32)
    assert 0 < (~visible).sum() < 32 * 32


def test_every_family_is_listed() -> None:
    assert [name for row in rows("family") for name in row[0].split(", ")] == list(FAMILIES)


def test_every_fill_is_listed_with_what_it_knows() -> None:
    assert [row[0] for row in rows("fill")] == list(TRAINING_FILLS)
    assert {row[0] for row in rows("fill") if row[2] == "yes"} == LOOKS_INTO_HOLE


def test_the_configuration_is_one_of_the_classifier() -> None:
    (block,) = blocks("yaml")
    options = yaml.safe_load(block)["model"] | {"hidden_fraction": (0.1, 0.9), "architecture_options": {"width": 16}}
    assert MaskRobustClassifier(num_classes=2, **options).hparams["mask_ramp"] == 0.5
