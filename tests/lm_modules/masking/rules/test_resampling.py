"""Interpolation, and exchange of positions and channels."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.lm_modules.masking import reference
from tests.lm_modules.masking.cases import (
    Function,
    assert_agrees,
    assert_differentiable,
    draw_features,
    draw_visible,
    exact,
    masked,
    masked_forward,
)

NEAREST = [
    (nn.Upsample(scale_factor=2), (10, 12)),
    (nn.Upsample((7, 9)), (7, 9)),
    (Function(lambda x: F.interpolate(x, scale_factor=3)), (15, 18)),
    (Function(lambda x: F.interpolate(x, size=(3, 4), mode="nearest")), (3, 4)),
]
BILINEAR = [
    (nn.Upsample(scale_factor=2, mode="bilinear"), (10, 12), False),
    (nn.Upsample(scale_factor=3, mode="bilinear"), (15, 18), False),
    (nn.UpsamplingBilinear2d(size=(7, 11)), (7, 11), True),
    (nn.Upsample(scale_factor=1.5, mode="bilinear", recompute_scale_factor=True), (7, 9), False),
    (Function(lambda x: F.interpolate(x, (3, 4), None, "bilinear")), (3, 4), False),
    (Function(lambda x: F.interpolate(x, x.shape[-2:], mode="bilinear", align_corners=False)), (5, 6), False),
]


@pytest.mark.parametrize(("module", "size"), NEAREST)
def test_a_nearest_position_is_as_visible_as_the_one_it_copies(module: nn.Module, size: tuple[int, int]) -> None:
    features, visible = draw_features(6, 2, 5, 6), draw_visible(5, 6)
    expected = reference.resize(exact(features), visible[:, 0].numpy(), size, "nearest")
    assert_agrees(masked_forward(module, masked(features, visible)), expected)
    assert_differentiable(module, 2)


@pytest.mark.parametrize(("module", "size", "align_corners"), BILINEAR)
def test_a_bilinear_position_is_visible_when_one_of_its_four_is_and_reads_filled_ones(
    module: nn.Module, size: tuple[int, int], align_corners: bool
) -> None:
    features, visible = draw_features(6, 2, 5, 6), draw_visible(5, 6)
    expected = reference.resize(exact(features), visible[:, 0].numpy(), size, "bilinear", align_corners=align_corners)
    assert_agrees(masked_forward(module, masked(features, visible)), expected)
    assert_differentiable(module, 2)


@pytest.mark.parametrize("module", [nn.PixelUnshuffle(2), Function(lambda x: F.pixel_unshuffle(x, 2))])
def test_a_block_that_becomes_channels_is_visible_where_any_of_it_is(module: nn.Module) -> None:
    features, visible = draw_features(6, 2, 6, 8), draw_visible(6, 8)
    x, seen = reference.hide(exact(features), visible[:, 0].numpy()), visible[:, 0].numpy()
    expected = torch.zeros(6, 8, 3, 4, dtype=torch.float64)
    for channel, row, column in torch.cartesian_prod(torch.arange(2), torch.arange(2), torch.arange(2)).tolist():
        expected[:, 4 * channel + 2 * row + column] = torch.from_numpy(x[:, channel, row::2, column::2])
    shown = reference.propagate(seen, (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1))
    assert_agrees(masked_forward(module, masked(features, visible)), (expected.numpy(), shown))
    assert_differentiable(module, 2, (6, 4))


@pytest.mark.parametrize("module", [nn.PixelShuffle(2), Function(lambda x: F.pixel_shuffle(x, 2))])
def test_channels_that_become_a_block_are_as_visible_as_where_they_were(module: nn.Module) -> None:
    features, visible = draw_features(6, 8, 3, 4), draw_visible(3, 4)
    expected, seen = torch.zeros(6, 2, 6, 8, dtype=torch.float64), torch.zeros(6, 6, 8, dtype=torch.bool)
    for y, x in torch.cartesian_prod(torch.arange(6), torch.arange(8)).tolist():
        expected[:, :, y, x] = features[:, [2 * (y % 2) + x % 2, 4 + 2 * (y % 2) + x % 2], y // 2, x // 2]
        seen[:, y, x] = visible[:, 0, y // 2, x // 2]
    assert_agrees(masked_forward(module, masked(features, visible)), (expected.numpy(), seen.numpy()))
    assert_differentiable(module, 8)
