"""Convolutions of any geometry, and padding ahead of them."""

import numpy as np
import pytest
import torch
from timm.layers import BlurPool2d
from torch import Tensor, nn
from torch.nn import functional as F

from tests.lm_modules.masking import reference
from tests.lm_modules.masking.cases import (
    Function,
    assert_agrees,
    assert_differentiable,
    assert_fillings_carry_no_gradient,
    draw_features,
    draw_visible,
    exact,
    masked,
    masked_forward,
)

GEOMETRIES = [
    {"kernel_size": 1},
    {"kernel_size": 1, "stride": 2},
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 1, "stride": 2, "groups": 2},
    {"kernel_size": 3, "padding": 1, "groups": 4},
    {"kernel_size": 5, "padding": 2, "stride": 2},
    {"kernel_size": 3, "padding": 2, "dilation": 2, "groups": 2},
    {"kernel_size": 3, "padding": 0, "dilation": (1, 2), "stride": (2, 1)},
    {"kernel_size": (3, 1), "padding": (2, 0), "stride": (1, 2)},
    {"kernel_size": (1, 5), "padding": "same"},
    {"kernel_size": 4, "padding": "same"},
    {"kernel_size": 2, "padding": "same", "dilation": 3},
    {"kernel_size": 3, "padding": "valid"},
    {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    {"kernel_size": 5, "padding": 2, "padding_mode": "replicate", "stride": 2},
    {"kernel_size": 3, "padding": (1, 2), "padding_mode": "circular"},
    {"kernel_size": 4, "padding": "same", "padding_mode": "reflect"},
]
TRANSPOSED = [
    {"kernel_size": 2, "stride": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
    {"kernel_size": 4, "stride": 2, "padding": 1, "groups": 2},
    {"kernel_size": (3, 5), "stride": (1, 2), "padding": (0, 1)},
    {"kernel_size": 3, "stride": 2, "dilation": 2},
    {"kernel_size": 1, "stride": 3},
]
even_kernels = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")


def both(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def sides(padding: str | int | tuple[int, int], kernel: tuple[int, int], dilation: tuple[int, int]) -> list:
    """((top, bottom), (left, right)); "same" puts the odd position behind."""
    if padding == "same":
        totals = [(size - 1) * step for size, step in zip(kernel, dilation, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(size, size) for size in both(0 if padding == "valid" else padding)]


def expected_of(module: nn.Conv2d, features: Tensor, visible: Tensor) -> tuple:
    x, seen = exact(features), visible[:, 0].numpy()
    padding = sides(module.padding, module.kernel_size, module.dilation)
    if module.padding_mode != "zeros":
        x, seen = reference.frame(x, seen, padding, module.padding_mode)
        padding = sides(0, module.kernel_size, module.dilation)
    weight, bias = exact(module.weight), exact(module.bias)
    return reference.convolution(x, seen, weight, bias, module.stride, padding, module.dilation, module.groups)


@even_kernels
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_a_convolution_sees_filled_neighbours_and_marks_what_it_sees(geometry: dict) -> None:
    module = nn.Conv2d(4, 4, **geometry, dtype=torch.float64)
    features, visible = draw_features(6, 4, 9, 8), draw_visible(9, 8)
    assert_agrees(masked_forward(module, masked(features, visible)), expected_of(module, features, visible))


@pytest.mark.parametrize("geometry", [{}, {"stride": 2, "padding": 1}, {"padding": "same", "dilation": 2, "groups": 2}])
@pytest.mark.parametrize("convolve", [F.conv2d, torch.conv2d])
def test_a_functional_call_is_the_module(convolve, geometry: dict) -> None:
    module = nn.Conv2d(4, 4, 3, **geometry, dtype=torch.float64)
    x = masked(draw_features(6, 4, 9, 8), draw_visible(9, 8))
    weight, bias = module.weight.detach(), module.bias.detach()
    called = Function(lambda features: convolve(features, weight, bias, **geometry))
    result, expected = masked_forward(called, x), masked_forward(module, x)
    assert torch.equal(result.features, expected.features)
    assert torch.equal(result.visible.positions, expected.visible.positions)


@pytest.mark.parametrize("geometry", TRANSPOSED, ids=str)
def test_a_transposed_convolution_marks_what_a_visible_input_reaches(geometry: dict) -> None:
    module = nn.ConvTranspose2d(4, 6, **geometry, bias=False, dtype=torch.float64)
    features, visible = draw_features(6, 4, 5, 6), draw_visible(5, 6)
    expected = reference.transposed_convolution(
        exact(features), visible[:, 0].numpy(), exact(module.weight), module.stride, both(module.padding),
        both(module.output_padding), module.dilation, module.groups,
    )  # fmt: skip
    assert_agrees(masked_forward(module, masked(features, visible)), expected)
    assert_differentiable(module, 4)
    assert_fillings_carry_no_gradient(module, 4)


@pytest.mark.parametrize(("filter_size", "mode"), [(3, "reflect"), (5, "reflect"), (4, "constant")])
def test_a_blur_pool_frames_and_then_convolves(filter_size: int, mode: str) -> None:
    module = BlurPool2d(4, filter_size, stride=2, pad_mode=mode).double()
    features, visible = draw_features(6, 4, 9, 8), draw_visible(9, 8)
    left, right, top, bottom = module.padding
    padding, zero = ((top, bottom), (left, right)), ((0, 0), (0, 0))
    x, seen = exact(features), visible[:, 0].numpy()
    if mode == "reflect":
        x, seen = reference.frame(x, seen, padding, mode)
        padding = zero
    expected = reference.convolution(x, seen, exact(module.filt), None, (2, 2), padding, (1, 1), groups=4)
    assert_agrees(masked_forward(module, masked(features, visible)), expected)
    assert_differentiable(module, 4)


PADDINGS = [
    (nn.ZeroPad2d((1, 2, 0, 1)), (0, 1), (1, 2), "zeros"),
    (nn.ConstantPad2d(2, 0.0), (2, 2), (2, 2), "zeros"),
    (nn.ReflectionPad2d((1, 2, 0, 1)), (0, 1), (1, 2), "reflect"),
    (nn.ReplicationPad2d(2), (2, 2), (2, 2), "replicate"),
    (nn.CircularPad2d((2, 0, 1, 1)), (1, 1), (2, 0), "circular"),
    (Function(lambda x: F.pad(x, (0, 1, 2, 0))), (2, 0), (0, 1), "zeros"),
    (Function(lambda x: F.pad(x, [1] * 4, mode="replicate")), (1, 1), (1, 1), "replicate"),
    (Function(lambda x: F.pad(x, (1, 1, 1, 1), "constant", 0)), (1, 1), (1, 1), "zeros"),
]


@pytest.mark.parametrize(("module", "vertical", "horizontal", "mode"), PADDINGS)
def test_padding_frames_features_and_mask_alike(module, vertical: tuple, horizontal: tuple, mode: str) -> None:
    features, visible = draw_features(6, 2, 5, 6), draw_visible(5, 6)
    expected = reference.frame(exact(features), visible[:, 0].numpy(), (vertical, horizontal), mode)
    assert_agrees(masked_forward(module, masked(features, visible)), expected)
    assert_differentiable(module, 2)


def test_negative_padding_crops() -> None:
    features, visible = draw_features(6, 2, 7, 6), draw_visible(7, 6)
    result = masked_forward(Function(lambda x: F.pad(x, (-1, 1, 0, -2))), masked(features, visible))
    cropped, seen = exact(features)[:, :, :-2, 1:], visible[:, 0, :-2, 1:].numpy()
    assert_agrees(result, reference.frame(cropped, seen, ((0, 0), (0, 1)), "zeros"))


@pytest.mark.parametrize(
    "ahead",
    [
        nn.ZeroPad2d((1, 2, 0, 1)),
        nn.Sequential(nn.ZeroPad2d((1, 0, 0, 1)), nn.ZeroPad2d((0, 2, 0, 0))),
        Function(lambda x: F.pad(x, (1, 2, 0, 1))),
    ],
    ids=["module", "twice", "functional"],
)
@pytest.mark.parametrize("own_padding", [0, 2])
@pytest.mark.parametrize("stride", [1, 2])
def test_zeros_ahead_of_a_convolution_are_those_inside_it(ahead: nn.Module, own_padding: int, stride: int) -> None:
    module = nn.Conv2d(2, 3, 5, stride, own_padding, dtype=torch.float64)
    features, visible = draw_features(6, 2, 7, 6), draw_visible(7, 6)
    padding = ((own_padding, own_padding + 1), (own_padding + 1, own_padding + 2))
    expected = reference.convolution(
        exact(features), visible[:, 0].numpy(), exact(module.weight), exact(module.bias), (stride, stride), padding
    )
    assert_agrees(masked_forward(nn.Sequential(ahead, module), masked(features, visible)), expected)


@pytest.mark.parametrize("size", [(5, 6), (6, 9)])
@pytest.mark.parametrize("pool", [nn.MaxPool2d(2, 2, ceil_mode=True), nn.AvgPool2d(3, 2, ceil_mode=True)])
def test_windows_in_ceil_mode_may_start_in_zeros_ahead_of_them(pool: nn.Module, size: tuple[int, int]) -> None:
    features, visible = draw_features(6, 2, *size), draw_visible(*size)
    result = masked_forward(nn.Sequential(nn.ZeroPad2d(1), pool), masked(features, visible))
    shown = F.pad(torch.where(visible, features, 0), (1, 1, 1, 1))
    assert torch.equal(result.features, pool(shown))
    seen = F.max_pool2d(F.pad(visible.double(), (1, 1, 1, 1)), pool.kernel_size, pool.stride, ceil_mode=True) > 0
    assert torch.equal(result.visible.positions, seen | visible.all(dim=3, keepdim=True).all(dim=2, keepdim=True))
    assert np.isfinite(exact(result.features)).all()
