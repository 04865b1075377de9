"""The cookbook's recipes are short, and each runs by itself and gives the shapes that it names."""

import re

import pytest
import torch

from tests.pages.commands import blocks
from tests.test_house import ROOT

RECIPES = [block.text for block in blocks(ROOT / "docs" / "cookbook.md")]
NAMED = re.compile(r"^(\w+)(?:, \w+)* = .*# \((\d+(?:, \d+)+)\)", flags=re.MULTILINE)


@pytest.mark.parametrize("recipe", RECIPES, ids=range(len(RECIPES)))
def test_a_recipe_runs_by_itself_and_gives_the_shapes_it_names(recipe):
    names: dict[str, object] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        exec(recipe, names)
    for name, shape in NAMED.findall(recipe):
        assert str(tuple(names[name].shape)) == f"({shape})"  # type: ignore[attr-defined]
    if "visible" in names:
        assert not names["visible"].all()  # type: ignore[attr-defined]


def test_there_are_at_most_twelve_recipes_of_less_than_twenty_lines():
    assert 0 < len(RECIPES) <= 12
    assert max(recipe.count("\n") for recipe in RECIPES) < 20
