"""The paddings of docs/padding_variants.py: layer masking holds for each, and each is what its name says."""

import math

import pytest
import torch

from maskrobust.lm_modules.masking.morphology import PADDINGS
from maskrobust.lm_modules.methods import WRAPPERS
from tests.lm_modules.masking.cases import draw_visible
from tests.lm_modules.masking.networks import build, draw_images, holes
from tests.pages.commands import script


@pytest.fixture
def variants():
    before = dict(PADDINGS), dict(WRAPPERS)
    yield script("padding_variants")
    for registry, kept in zip((PADDINGS, WRAPPERS), before, strict=True):
        registry.clear()
        registry.update(kept)  # type: ignore[call-overload]


def eight_to_the_right(_images, visible):
    return torch.tensor([0, 8])[None, :, None, None].expand(len(visible), 2, *visible.shape[2:])


@torch.no_grad()
def test_hidden_pixels_change_no_bit_under_any_of_them_and_they_differ(variants):
    network, images, visible, found = build("basic_resnet"), draw_images(), holes(), []
    for name in variants.register(eight_to_the_right):
        masked = WRAPPERS[name](network)
        found.append(masked(images, visible))
        assert torch.equal(masked(torch.where(visible, images, math.nan), visible), found[-1]), name
        torch.testing.assert_close(masked(images, torch.ones_like(visible)), network(images))
    assert (
        len(torch.stack(found).round(decimals=4).unique(dim=0)) >= len(found) - 2
    )  # strides of 8 and 16 are everything here


@pytest.mark.parametrize("rings", [1, 3])
def test_the_nearest_position_is_as_near_as_any(variants, rings):
    visible = draw_visible(9, 7)
    (plan,) = variants.nearest(visible, rings)
    (mirrored,) = PADDINGS["mirror"](visible, rings)
    assert torch.equal(plan.rows, mirrored.rows)
    places = torch.stack([plan.rows // 7 % 9, plan.rows % 7]).double()
    distances = (places - torch.stack([plan.neighbours // 7 % 9, plan.neighbours % 7])).norm(dim=0)
    for row, distance in zip(plan.rows.tolist(), distances.tolist(), strict=True):
        seen = visible[row // 63, 0].nonzero().tolist()
        assert distance == min(math.dist((row // 7 % 9, row % 7), place) for place in seen)
