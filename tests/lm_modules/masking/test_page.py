"""The page on layer masking: its code runs, its output is the code's, as is the reference's example by hand."""

import contextlib
import io
import re

import pytest
import torch
from torch import nn

from maskrobust.lm_modules.masking import LayerMasking, Masked, VisibleMap
from maskrobust.lm_modules.masking.dispatch import enter_rules_for_timm
from maskrobust.lm_modules.masking.morphology import row_indices
from maskrobust.lm_modules.masking.table import RULES
from maskrobust.lm_modules.masking.visible_map import MaskingOptions
from tests.pages.commands import blocks
from tests.test_house import ROOT

PAGE = ROOT / "docs" / "layer-masking.md"
BY_HAND = ROOT / "docs" / "reference" / "layer-masking.md"
HIDDEN = "·"


def table(name):
    """Cells of the table below a mark, without its empty head."""
    (text,) = re.findall(rf"<!-- table: {name} -->\n\n((?:\|.*\n)+)", BY_HAND.read_text(encoding="utf-8"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]


def values(name):
    """(1, 1, H, W), NaN where hidden; emphasis is left out."""
    rows = [[cell.strip("*") for cell in row] for row in table(name)]
    return torch.tensor([[float("nan" if cell == HIDDEN else cell) for cell in row] for row in rows])[None, None]


def features():
    """The emphasised values are visible, and nothing is known of the others."""
    visible = torch.tensor([["**" in cell for cell in row] for row in table("filled")])[None, None]
    return Masked(values("filled").where(visible, torch.nan), VisibleMap(visible, MaskingOptions()))


@pytest.fixture(scope="module")
def run():
    """The names that the page's code defines, and what it prints."""
    enter_rules_for_timm()
    before, names, printed = dict(RULES), {}, io.StringIO()
    with contextlib.redirect_stdout(printed), torch.random.fork_rng(devices=[]):
        for block in blocks(PAGE):
            if block.language == "python":
                exec(block.text, names)
    yield names, printed.getvalue()
    RULES.clear()
    RULES.update(before)


def test_padding_fills_the_values_of_the_page():
    x, expected = features(), values("filled")
    assert x.visible.positions.sum() == 3
    filled = x.with_neighbour_padding(2)
    torch.testing.assert_close(filled[~expected.isnan()], expected[~expected.isnan()])
    reached = torch.cat([ring.rows for ring in x.visible.padding_plan(2)] + [row_indices(x.visible.positions)])
    assert sorted(reached.tolist()) == (~expected.isnan()).flatten().nonzero().flatten().tolist()


def test_a_convolution_gives_the_values_of_the_page_where_it_is_visible():
    convolution = nn.Conv2d(1, 1, 3, 2, 1, bias=False)
    nn.init.ones_(convolution.weight)
    result, expected = convolution(features()), values("convolved")
    assert torch.equal(result.visible.positions, ~expected.isnan())
    torch.testing.assert_close(result.features[~expected.isnan()], expected[~expected.isnan()])


def test_the_plan_of_the_page_is_the_one_that_is_printed(run):
    (expected,) = (block.text for block in blocks(PAGE) if block.language == "text")
    assert run[1] == expected


def test_the_pages_networks_and_rules_do_not_see_hidden_pixels(run):
    names, _ = run
    images, visible = names["images"], names["visible"]
    garbled = torch.where(visible, images, torch.nan)
    assert torch.equal(names["masked"](garbled, visible), names["logits"])
    network = names["SmallNetwork"](10).eval()  # with a rule of the page
    own = LayerMasking(network)
    assert torch.equal(own(garbled, visible), own(images, visible)) and own(garbled, visible).isfinite().all()
    everything = torch.ones_like(visible)
    assert torch.equal(own(images, everything), network(images))
    nearly = everything.clone()
    nearly[0, 0, 0, 0] = False
    torch.testing.assert_close(own(images, nearly)[1], network(images)[1])
