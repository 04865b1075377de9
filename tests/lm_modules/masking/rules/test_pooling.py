"""Pools with windows, global and adaptive pools, and reductions."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskrobust.lm_modules.masking import UnsupportedNetworkError
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
    masked_output,
)

MAXIMA = [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 3, "ceil_mode": True},
    {"kernel_size": 2, "stride": 2, "padding": 1, "ceil_mode": True},
    {"kernel_size": (2, 3), "stride": (1, 2), "dilation": (2, 1)},
    {"kernel_size": 3, "stride": 1, "padding": 1},
]
MEANS = [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
    {"kernel_size": 3, "stride": 2, "ceil_mode": True, "count_include_pad": False},
    {"kernel_size": 2, "stride": 2, "padding": 1, "divisor_override": 3},
]


def settings_of(geometry: dict) -> tuple:
    """Kernel, stride, padding and dilation, for the reference."""
    values = [geometry.get(name, default) for name, default in (("kernel_size", 1), ("padding", 0), ("dilation", 1))]
    kernel, padding, dilation = ((value, value) if isinstance(value, int) else value for value in values)
    stride = geometry.get("stride", kernel)
    stride = (stride, stride) if isinstance(stride, int) else stride
    return kernel, stride, tuple((size, size) for size in padding), dilation


@pytest.mark.parametrize("geometry", MAXIMA, ids=str)
@pytest.mark.parametrize("functional", [False, True])
def test_a_max_pool_takes_hidden_positions_for_zero(geometry: dict, functional: bool) -> None:
    module = Function(lambda x: F.max_pool2d(x, **geometry)) if functional else nn.MaxPool2d(**geometry)
    features, visible = draw_features(6, 2, 9, 8), draw_visible(9, 8)
    expected = reference.pool(
        exact(features), visible[:, 0].numpy(), *settings_of(geometry), ceil_mode=geometry.get("ceil_mode", False)
    )
    assert_agrees(masked_forward(module, masked(features, visible)), expected)
    assert_differentiable(module, 2)


@pytest.mark.parametrize("geometry", MEANS, ids=str)
@pytest.mark.parametrize("functional", [False, True])
def test_an_average_pool_takes_hidden_positions_for_zero(geometry: dict, functional: bool) -> None:
    module = Function(lambda x: F.avg_pool2d(x, **geometry)) if functional else nn.AvgPool2d(**geometry)
    features, visible = draw_features(6, 2, 9, 8), draw_visible(9, 8)
    area = geometry.get("divisor_override", int(np.prod(settings_of(geometry)[0])))
    counts_all = geometry.get("count_include_pad", True)
    expected = reference.pool(
        exact(features),
        visible[:, 0].numpy(),
        *settings_of(geometry),
        reduce=lambda values: np.sum(values, axis=0) / (area if counts_all else len(values)),
        ceil_mode=geometry.get("ceil_mode", False),
    )
    assert_agrees(masked_forward(module, masked(features, visible)), expected)
    assert_differentiable(module, 2)


def test_a_power_average_pool_takes_hidden_positions_for_zero() -> None:
    module, features, visible = nn.LPPool2d(2, 3, 2), draw_features(6, 2, 9, 8), draw_visible(9, 8)
    geometry = (3, 3), (2, 2)
    expected = reference.pool(
        exact(features), visible[:, 0].numpy(), *geometry, reduce=lambda values: np.sum(np.square(values), 0) ** 0.5
    )
    assert_agrees(masked_forward(module, masked(features, visible)), expected)
    assert_differentiable(module, 2)


ADAPTIVE = {
    "mean": [nn.AdaptiveAvgPool2d, lambda size: Function(lambda x: F.adaptive_avg_pool2d(x, size))],
    "max": [nn.AdaptiveMaxPool2d, lambda size: Function(lambda x: F.adaptive_max_pool2d(x, size))],
}


@pytest.mark.parametrize("kind", ADAPTIVE)
@pytest.mark.parametrize("form", [0, 1], ids=["module", "functional"])
@pytest.mark.parametrize("size", [2, (3, 2), (1, 4), (None, 3), (7, 7), (9, 8)])
def test_each_bin_of_an_adaptive_pool_is_that_of_its_visible_positions(kind: str, form: int, size) -> None:
    module, features, visible = ADAPTIVE[kind][form](size), draw_features(6, 2, 5, 8), draw_visible(5, 8)
    bins = (size, size) if isinstance(size, int) else (size[0] or 5, size[1])
    expected = reference.adaptive_pool(exact(features), visible[:, 0].numpy(), bins, kind)
    assert_agrees(masked_forward(module, masked(features, visible)), expected)
    assert_differentiable(module, 2)


def pooled(module: nn.Module, features: Tensor, visible: Tensor) -> Tensor:
    return masked_output(nn.Sequential(module, nn.Flatten()), masked(features, visible))


GLOBAL_MEANS = {
    "1": nn.AdaptiveAvgPool2d(1),
    "(1, 1)": nn.AdaptiveAvgPool2d((1, 1)),
    "[1, 1]": nn.AdaptiveAvgPool2d([1, 1]),
    "functional": Function(lambda x: F.adaptive_avg_pool2d(x, output_size=(1, 1))),
    "method": Function(lambda x: x.mean([2, 3])),
    "two numbers": Function(lambda x: x.mean((-1, -2), keepdim=True)),
    "torch.mean": Function(lambda x: torch.mean(x, dim=(2, 3))),
    "channels last": Function(lambda x: x.permute(0, 2, 3, 1).mean((1, 2))),
}


@pytest.mark.parametrize("name", GLOBAL_MEANS)
def test_a_global_mean_is_that_of_visible_positions_and_ends_masking(name: str) -> None:
    features, visible = draw_features(6, 4, 5, 6), draw_visible(5, 6)
    expected = reference.masked_mean(exact(features), visible[:, 0].numpy())
    torch.testing.assert_close(pooled(GLOBAL_MEANS[name], features, visible), torch.from_numpy(expected))


REDUCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable]] = {
    "sum": (lambda x: x.sum((2, 3)), lambda x: x.sum(axis=(2, 3))),
    "torch.sum": (lambda x: torch.sum(x, dim=[2, 3], keepdim=True), lambda x: x.sum(axis=(2, 3))),
    "amax": (lambda x: x.amax((-2, -1)), lambda x: x.max(axis=(2, 3))),
    "adaptive max": (lambda x: F.adaptive_max_pool2d(x, 1), lambda x: x.max(axis=(2, 3))),
    "norm": (lambda x: x.norm(p=2, dim=(2, 3)), lambda x: (x**2).sum(axis=(2, 3)) ** 0.5),
    "torch.norm": (lambda x: torch.norm(x, 2, (2, 3)), lambda x: (x**2).sum(axis=(2, 3)) ** 0.5),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_other_reductions_take_hidden_positions_for_zero_and_end_masking(name: str) -> None:
    reduce, expected = REDUCTIONS[name]
    features, visible = draw_features(6, 4, 5, 6), draw_visible(5, 6)
    shown = reference.hide(exact(features), visible[:, 0].numpy())
    torch.testing.assert_close(pooled(Function(reduce), features, visible), torch.from_numpy(expected(shown)))


@pytest.mark.parametrize("keepdim", [True, False])
@pytest.mark.parametrize("name", ["mean", "sum", "amax"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_reduction_over_channels_is_position_by_position(name: str, keepdim: bool, channels_last: bool) -> None:
    def reduce(x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1) if channels_last else x
        return getattr(x, name)(-1 if channels_last else 1, keepdim=keepdim)

    x = masked(draw_features(6, 4, 5, 6), draw_visible(5, 6))
    result = masked_forward(Function(reduce), x)
    assert torch.equal(result.features, reduce(x.features))
    assert torch.equal(result.positions.reshape(6, 5, 6), x.visible.positions[:, 0])
    hidden = result.with_hidden_zero()[~result.positions.expand_as(result.features)]
    assert (hidden == 0).all() and result.with_hidden_zero().shape == result.features.shape


@pytest.mark.parametrize(
    ("reduce", "named"),
    [
        (lambda x: x.mean(), "axes None"),
        (lambda x: x.sum((1, 2, 3)), r"axes \(1, 2, 3\)"),
        (lambda x: x.mean(3), r"axes \[3\]"),
        (lambda x: x.mean((1, 2)), r"axes \[1, 2\]"),
    ],
)
def test_a_reduction_over_one_of_height_and_width_is_refused(reduce, named: str) -> None:
    with pytest.raises(UnsupportedNetworkError, match=named):
        pooled(nn.Sequential(Function(reduce)), draw_features(6, 4, 5, 6), draw_visible(5, 6))
