"""timm's own layers."""

import math

import numpy as np
import pytest
import torch
from timm.layers import BatchNormAct2d, DropPath, StdConv2d
from timm.layers.cond_conv2d import CondConv2d
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from timm.layers.space_to_depth import SpaceToDepth
from timm.layers.std_conv import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2dSame
from timm.models.vgg import ConvMlp
from torch import Tensor, nn
from torch.nn import functional as F

from tests.lm_modules.masking import reference
from tests.lm_modules.masking.cases import (
    assert_agrees,
    assert_differentiable,
    draw_features,
    draw_visible,
    exact,
    masked,
    masked_forward,
)
from tests.lm_modules.masking.networks import randomise

SIZES = [(9, 8), (7, 6), (3, 2)]


def same(size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]) -> list:
    """TensorFlow's padding: ceil(size / stride) outputs, the odd position behind."""
    totals = [
        max(0, (math.ceil(length / step) - 1) * step + (side - 1) * spread + 1 - length)
        for length, side, step, spread in zip(size, kernel, stride, dilation, strict=True)
    ]
    return [(total // 2, total - total // 2) for total in totals]


def standardised(module: nn.Conv2d) -> np.ndarray:
    weight = exact(module.weight)
    flat = weight.reshape(len(weight), -1)
    flat = (flat - flat.mean(axis=1, keepdims=True)) / np.sqrt(flat.var(axis=1, keepdims=True) + module.eps)
    if hasattr(module, "gain"):
        flat = flat * exact(module.gain).reshape(-1, 1) * module.scale
    return flat.reshape(weight.shape)


DYNAMIC = {
    "Conv2dSame": (lambda: Conv2dSame(4, 4, 3, 2, bias=False), exact),
    "grouped, dilated": (lambda: Conv2dSame(4, 4, (3, 2), dilation=2, groups=2, bias=False), exact),
    "StdConv2dSame": (lambda: StdConv2dSame(4, 4, 4, stride=2), None),
    "ScaledStdConv2dSame": (lambda: ScaledStdConv2dSame(4, 4, 3, stride=3, bias=False), None),
}


@pytest.mark.parametrize("name", DYNAMIC)
@pytest.mark.parametrize("size", SIZES)
def test_a_same_convolution_pads_as_the_size_of_the_features_asks(name: str, size: tuple[int, int]) -> None:
    make, weight_of = DYNAMIC[name]
    module, features, visible = make().double(), draw_features(6, 4, *size), draw_visible(*size)
    weight = exact(module.weight) if weight_of else standardised(module)
    padding = same(size, module.kernel_size, module.stride, module.dilation)
    expected = reference.convolution(
        exact(features), visible[:, 0].numpy(), weight, None, module.stride, padding, module.dilation, module.groups
    )
    assert_agrees(masked_forward(module, masked(features, visible)), expected)
    assert_differentiable(module, 4)


@pytest.mark.parametrize(
    "make",
    [
        lambda: StdConv2d(4, 4, 3, stride=2),
        lambda: ScaledStdConv2d(4, 4, 3, padding=1, bias=False),
        lambda: StdConv2dSame(4, 4, 3, stride=2, padding=""),
        lambda: StdConv2dSame(4, 4, 5, padding="same"),
        lambda: ScaledStdConv2dSame(4, 4, 2, stride=2, padding="valid", bias=False),
    ],
)
@pytest.mark.parametrize("training", [False, True])
def test_a_convolution_with_standardised_weights_is_a_convolution(make, training: bool) -> None:
    module, features, visible = make().double(), draw_features(6, 4, 9, 8), draw_visible(9, 8)
    padding = [(size, size) for size in module.padding]
    expected = reference.convolution(
        exact(features), visible[:, 0].numpy(), standardised(module), None, module.stride, padding
    )
    assert_agrees(masked_forward(module, masked(features, visible), training=training), expected)
    assert_differentiable(module, 4)


POOLS = {
    "max": (MaxPool2dSame, lambda values: np.max(values, axis=0)),
    "average": (AvgPool2dSame, lambda values: np.sum(values, axis=0) / 9),
}


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("stride", [1, 2])
def test_a_same_pool_pads_as_the_size_of_the_features_asks(name: str, size: tuple[int, int], stride: int) -> None:
    kind, reduce = POOLS[name]
    features, visible = draw_features(6, 2, *size), draw_visible(*size)
    geometry = (3, 3), (stride, stride), same(size, (3, 3), (stride, stride), (1, 1)), (1, 1)
    expected = reference.pool(exact(features), visible[:, 0].numpy(), *geometry, reduce=reduce)
    assert_agrees(masked_forward(kind(3, stride), masked(features, visible)), expected)


class Conditional(nn.Module):
    """A convolution whose kernel each image mixes for itself, from its own global mean."""

    def __init__(self, **geometry) -> None:
        super().__init__()
        self.route, self.conv = nn.Linear(4, 3), CondConv2d(4, 6, 3, num_experts=3, bias=True, **geometry)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x, torch.sigmoid(self.route(F.adaptive_avg_pool2d(x, 1).flatten(1))))


@pytest.mark.parametrize("geometry", [{}, {"stride": 2, "padding": "same"}, {"groups": 2, "padding": "valid"}], ids=str)
def test_a_conditional_convolution_has_each_images_own_kernel(geometry: dict) -> None:
    module, features, visible = Conditional(**geometry).double(), draw_features(6, 4, 9, 8), draw_visible(9, 8)
    conv, seen = module.conv, visible[:, 0].numpy()
    means = torch.from_numpy(reference.masked_mean(exact(features), seen))
    routes = exact(torch.sigmoid(module.route(means)))
    padding = [(size, size) for size in conv.padding]
    if conv.dynamic_padding:
        padding = same((9, 8), conv.kernel_size, conv.stride, conv.dilation)
    parts = [
        reference.convolution(
            exact(features)[b : b + 1], seen[b : b + 1], (routes[b] @ exact(conv.weight)).reshape(conv.weight_shape),
            routes[b] @ exact(conv.bias), conv.stride, padding, conv.dilation, conv.groups,
        )
        for b in range(6)
    ]  # fmt: skip
    expected = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    assert_agrees(masked_forward(module, masked(features, visible)), expected)
    assert_differentiable(module, 4)


def test_space_to_depth_is_visible_where_any_of_a_block_is() -> None:
    features, visible = draw_features(6, 2, 8, 12), draw_visible(8, 12)
    x, seen = reference.hide(exact(features), visible[:, 0].numpy()), visible[:, 0].numpy()
    blocks = [x[:, :, row::4, column::4] for row in range(4) for column in range(4)]
    shown = reference.propagate(seen, (4, 4), (4, 4), ((0, 0), (0, 0)), (1, 1))
    result = masked_forward(SpaceToDepth(4), masked(features, visible))
    assert_agrees(result, (np.concatenate(blocks, axis=1), shown))
    assert_differentiable(SpaceToDepth(4), 2, (8, 4))


@pytest.mark.parametrize("size", [(9, 8), (7, 7), (5, 8), (1, 3)])
def test_vggs_head_brings_small_maps_to_the_size_of_its_first_kernel(size: tuple[int, int]) -> None:
    module = ConvMlp(4, 6, 7).double()
    features, visible = draw_features(6, 4, *size), draw_visible(*size)
    x, seen = exact(features), visible[:, 0].numpy()
    if min(size) < 7:
        x, seen = reference.adaptive_pool(x, seen, (max(7, size[0]), max(7, size[1])), "mean")
    for layer in (module.fc1, module.fc2):
        x, seen = reference.convolution(x, seen, exact(layer.weight), exact(layer.bias))
        x = np.maximum(x, 0)
    assert_agrees(masked_forward(module, masked(features, visible)), (x, seen))


def norm_act() -> BatchNormAct2d:
    return randomise(BatchNormAct2d(4, act_layer=nn.SiLU)).double()


@pytest.mark.parametrize("training", [False, True])
def test_a_batch_norm_with_an_activation_is_both(training: bool) -> None:
    module, features, visible = norm_act(), draw_features(6, 4, 5, 6), draw_visible(5, 6)
    plain = nn.Sequential(randomise(nn.BatchNorm2d(4)).double(), nn.SiLU())
    result = masked_forward(module, masked(features, visible), training=training)
    expected = masked_forward(plain, masked(features, visible), training=training)
    assert_agrees(result, (exact(expected.features), visible[:, 0].numpy()))
    torch.testing.assert_close(module.running_mean, plain[0].running_mean)


def test_drop_path_keeps_or_drops_whole_images_in_training_alone() -> None:
    x = masked(1.5 + draw_features(6, 4, 5, 6), draw_visible(5, 6))
    assert torch.equal(masked_forward(DropPath(0.5), x).features, x.features)
    torch.manual_seed(0)
    ratio = masked_forward(DropPath(0.5), x, training=True).features / x.features
    assert set(ratio.unique().round(decimals=6).tolist()) == {0.0, 2.0}
