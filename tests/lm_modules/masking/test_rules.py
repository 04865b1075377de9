"""Each operation by itself: of positions alone, against the plain operation; of neighbours, against the reference."""

import copy
import inspect
import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.layers import BatchNormAct2d, BlurPool2d, DropPath, GroupNormAct, LayerNorm2d, StdConv2d
from timm.layers.cond_conv2d import CondConv2d
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.grn import GlobalResponseNorm
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from timm.layers.space_to_depth import SpaceToDepth
from timm.layers.std_conv import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2dSame
from timm.models.vgg import ConvMlp
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

from maskrobust.lm_modules.masking import LayerMasking, VisibleMap
from maskrobust.lm_modules.masking.rules.pointwise import ACTIVATIONS
from tests.lm_modules.masking.cases import (
    OPTIONS,
    Function,
    assert_as_reference,
    assert_close,
    draw_features,
    draw_visible,
)
from tests.lm_modules.masking.networks import draw_images, randomise

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")

Operation = nn.Module | Callable[..., Any]


def as_network(operation: Operation) -> nn.Module:
    """With the operation as a part, so that a module has its own rule."""
    return nn.Sequential(operation if isinstance(operation, nn.Module) else Function(operation))


# --- positions alone --------------------------------------------------------------------------------------------------


def channels_last(operation: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: operation(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def shuffled(x: Tensor) -> Tensor:
    batch, channels, height, width = x.size()
    grouped = torch.transpose(x.view(batch, 2, channels // 2, height, width), 1, 2).contiguous()
    return grouped.view(batch, -1, height, width)


def shuffled_by_shape(x: Tensor) -> Tensor:
    grouped = x.reshape((x.shape[0], 2, -1, x.shape[2], x.shape[3])).swapaxes(1, 2)
    return torch.reshape(grouped, shape=(x.size(0), -1, x.size(2), x.size(3)))


def weighed_groups(x: Tensor) -> Tensor:
    """Split attention."""
    grouped = x.view(x.shape[0], 2, 3, x.shape[2], x.shape[3])
    first, second = grouped.unbind(dim=1)
    return (grouped * 2).sum(dim=1) + first - second


def activated_in_place(activate: Callable[[Tensor], Any]) -> Callable[[Tensor], Tensor]:
    def function(x: Tensor) -> Tensor:
        y = x * 1.0
        activate(y)
        return y + x

    return function


SINGULAR: dict[str, Operation] = {
    "x / x.norm": lambda x: x / x.norm(dim=1, keepdim=True),
    "x.div(y)": lambda x: x.div(x.square().sum(1, keepdim=True)),
    "torch.div": lambda x: torch.div(x, x.abs() + x.square()),
    "1 / x": lambda x: 1 / (x * x),
    "reciprocal": lambda x: x.square().reciprocal(),
    "sqrt": lambda x: x.square().sqrt(),
    "rsqrt": lambda x: torch.rsqrt(x.square()),
    "log": lambda x: x.square().log(),
    "log2": lambda x: torch.log2(x.abs()),
    "log10": lambda x: x.square().log10(),
    "log1p": lambda x: torch.log1p(x.square() - 1),
    "pow": lambda x: x.abs().pow(0.3),
    "operator **": lambda x: (x.square() - 0.0) ** -0.5,
    "x ** y": lambda x: x.abs() ** x,
    "2 ** x": lambda x: 2**x,
    "local response norm": nn.LocalResponseNorm(3, k=0.0),
    "changed in place": lambda x: F.relu(x).add(1).div_(x.square().sum(1, keepdim=True)),
}
"""Quotients, roots, powers and logarithms, which are infinite where hidden features are 0."""
MODULES = [nn.Threshold(0.1, 0.2) if kind is nn.Threshold else kind() for kind in ACTIVATIONS if inspect.isclass(kind)]
MODULES += [nn.Identity(), nn.Softmax2d(), nn.LocalResponseNorm(3), nn.PReLU(6), nn.ChannelShuffle(2), LayerNorm2d(6)]
MODULES += [nn.Softmax(dim=1), nn.LogSoftmax(1)]
ALONE: dict[str, Operation] = {
    **{type(module).__name__: module for module in MODULES},
    "activations": lambda x: F.silu(F.leaky_relu(F.gelu(x), 0.2)) + torch.sigmoid(x).tanh(),
    "arithmetic": lambda x: (-x).abs().exp().sqrt().clamp(max=1.2) ** 2,
    "numbers": lambda x: (2 - x) / 3 + x * 0.5 - 1 + (3 - x),
    "plain tensors": lambda x: (torch.ones(6, 1, 1) - x) * torch.full((1, 6, 1, 1), 2.0) + x,
    "hard swish by hand": lambda x: x * F.relu6(x + 3) / 6,
    "dropout in eval mode": lambda x: F.dropout(x, 0.5, training=False),
    "by name": lambda x: torch.relu(input=x),
    "casts": lambda x: x.contiguous().clone().to(torch.float64).type_as(x),
    "in place": activated_in_place(torch.relu_),
    "in place, by argument": activated_in_place(lambda y: F.relu(y, inplace=True)),
    "linear": Function(lambda x, own: channels_last(own)(x), nn.Linear(6, 3)),
    "F.linear": Function(lambda x, own: channels_last(lambda y: F.linear(y, own.weight, own.bias))(x), nn.Linear(6, 3)),
    "layer norm": Function(lambda x, own: channels_last(own)(x), nn.LayerNorm(6)),
    "F.layer_norm": channels_last(lambda x: F.layer_norm(x, normalized_shape=(6,), eps=1e-5)),
    "F.softmax": lambda x: F.softmax(x, dim=1),
    "x.log_softmax": lambda x: x.log_softmax(-3),
    "softmax, channels last": channels_last(lambda x: x.softmax(-1)),
    "mean of channels": lambda x: x.mean(1, keepdim=True),
    "largest channel": lambda x: x.amax(dim=1, keepdim=True),
    "sum of channels, channels last": lambda x: x.permute(0, 2, 3, 1).sum(-1, keepdim=True).permute(0, 3, 1, 2),
    "channel shuffle": shuffled,
    "channel shuffle by shape": shuffled_by_shape,
    "chunk": lambda x: torch.cat(x.chunk(2, dim=1)[::-1], 1),
    "split": lambda x: torch.cat(torch.split(x, [1, 4, 1], dim=1)[::-1], 1),
    "tensor_split": lambda x: torch.cat(torch.tensor_split(x, 3, dim=1)[::-1], 1),
    "slice": lambda x: x[:, 1:4],
    "strided slice": lambda x: x[:, ::2, :, :],
    "one channel": lambda x: x[:, 4].unsqueeze(1) + torch.unsqueeze(x[:, 2], dim=1),
    "slice, channels last": lambda x: x.permute(0, 2, 3, 1)[..., 3:].permute([0, 3, 1, 2]),
    "negative axes": lambda x: torch.permute(x, dims=(0, -2, -1, 1)).permute(0, -1, 1, 2),
    "weighed groups": weighed_groups,
    "stack and reduce": lambda x: torch.stack([x, x.abs()], dim=1).sum(dim=1),
    **SINGULAR,
}


@pytest.mark.parametrize("name", ALONE)
def test_an_operation_of_positions_alone_computes_the_visible_ones_and_keeps_the_map(name: str) -> None:
    module, visible = copy.deepcopy(as_network(ALONE[name])).double(), draw_visible(5, 7)
    plain = draw_features(6, 6, 5, 7).requires_grad_()
    expected = torch.where(visible, module(plain), 0)
    given = torch.where(visible, plain.detach(), torch.nan).requires_grad_()
    output = LayerMasking(module)(given, visible)
    assert_close(output, expected, 1e-12)
    expected.square().sum().backward()
    output.square().sum().backward()
    assert_close(given.grad, torch.where(visible, plain.grad, 0), 1e-9)
    assert torch.equal(LayerMasking(module).coverage(visible, channels=6) == 1, visible)


@pytest.mark.parametrize("name", SINGULAR)
@pytest.mark.parametrize("may_be_read", [True, False])
def test_in_training_nothing_is_infinite_where_all_that_is_hidden_is_zero(
    name: str, may_be_read: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VisibleMap, "may_be_read", may_be_read)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1, bias=False), as_network(SINGULAR[name]), nn.BatchNorm2d(4),
            nn.Conv2d(4, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2),
        ).train()  # fmt: skip
    visible = torch.zeros(3, 1, 9, 9, dtype=torch.bool)
    visible[0, :, :3, :3] = visible[1] = True
    images = draw_images(3, 9).requires_grad_()
    logits = LayerMasking(network)(images, visible)
    logits.square().sum().backward()
    tensors = [logits, images.grad, *network.buffers(), *(parameter.grad for parameter in network.parameters())]
    assert all(tensor.isfinite().all() for tensor in tensors)
    assert (images.grad[~visible.expand_as(images)] == 0).all()


def test_what_each_image_is_divided_by_may_be_zero_where_nothing_is_visible() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), Function(lambda x: x / x.norm(dim=(2, 3), keepdim=True)), nn.BatchNorm2d(4),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
    images, visible = draw_images(3, 9).requires_grad_(), torch.zeros(3, 1, 9, 9, dtype=torch.bool)
    visible[:2, :, 2:6, 2:6] = True
    alone = LayerMasking(copy.deepcopy(network))(images[:2], visible[:2])
    logits = LayerMasking(network)(images, visible)
    torch.testing.assert_close(logits[:2], alone)
    logits.sum().backward()
    gradients = (parameter.grad for parameter in network.parameters())
    assert all(tensor.isfinite().all() for tensor in [logits, images.grad, *network.buffers(), *gradients])


@pytest.mark.parametrize("module", [nn.Dropout(0.5), nn.Dropout2d(0.5), StochasticDepth(0.5, "row"), DropPath(0.5)])
def test_dropout_scales_or_drops_in_training_alone(module: nn.Module) -> None:
    features, visible = 1.5 + draw_features(6, 8, 5, 6), draw_visible(5, 6)
    network = as_network(module)
    assert torch.equal(LayerMasking(network.eval())(features, visible), torch.where(visible, features, 0))
    torch.manual_seed(0)
    ratio = (LayerMasking(network.train())(features, visible) / features)[visible.expand_as(features)]
    assert set(ratio.unique().round(decimals=6).tolist()) == {0.0, 2.0}


def test_features_may_be_cast() -> None:
    features, visible = draw_features(6, 4, 5, 6), draw_visible(5, 6)
    for cast, dtype in [("float", torch.float32), ("half", torch.float16), ("bfloat16", torch.bfloat16)]:
        output = LayerMasking(as_network(lambda x, name=cast: getattr(x, name)()))(features, visible)
        assert torch.equal(output, torch.where(visible, features, 0).to(dtype))


def test_the_most_likely_class_of_a_hidden_position_is_0() -> None:
    features, visible = draw_features(6, 4, 5, 6), draw_visible(5, 6)
    network = LayerMasking(as_network(lambda x: x.argmax(dim=1)))
    assert torch.equal(network(features, visible), torch.where(visible[:, 0], features.argmax(dim=1), 0))


# --- neighbours, branches, and everything -----------------------------------------------------------------------------


def branches(merge: Callable[[Tensor, Tensor], Tensor]) -> nn.Module:
    """Two branches with different masks: a 3x3 convolution, and the features as they are."""
    return Function(lambda x, own: merge(own(x), x), nn.Conv2d(4, 4, 3, padding=1))


def squeezed(pool: Callable[[Tensor], Tensor]) -> nn.Module:
    parts = [nn.Conv2d(4, 4, 1), *([pool] if isinstance(pool, nn.Module) else [])]
    return Function(lambda x, own, module=pool: x * own(module(x)).sigmoid(), *parts)


def ahead(*sizes: int, stride: int = 1, padding: int = 0, kernel: int = 5) -> nn.Module:
    """Zeros ahead of a convolution, which are padding of its own."""
    return nn.Sequential(nn.ZeroPad2d(sizes), nn.Conv2d(4, 3, kernel, stride, padding))


def named(make: Callable[..., nn.Module], *settings: dict[str, Any]) -> dict[str, nn.Module]:
    return {f"{make.__name__} {each}": make(**each) for each in settings}


class Windows:
    """Modules with their geometry, by name."""

    def conv(**geometry: Any) -> nn.Module:
        return nn.Conv2d(4, 4, **geometry)

    def transposed(**geometry: Any) -> nn.Module:
        return nn.ConvTranspose2d(4, 6, **geometry)

    def called(**geometry: Any) -> nn.Module:
        return Function(lambda x, own: F.conv2d(x, own.weight, own.bias, **geometry), nn.Conv2d(4, 4, 3, groups=2))


SIZE = (9, 8)
WINDOWED: dict[str, Operation] = {
    **named(
        Windows.conv,
        {"kernel_size": 1, "stride": 2},
        {"kernel_size": 3, "padding": 1, "stride": 2, "groups": 2},
        {"kernel_size": 3, "padding": 1, "groups": 4},
        {"kernel_size": 5, "padding": 2, "stride": 2},
        {"kernel_size": 3, "padding": 2, "dilation": 2, "groups": 2},
        {"kernel_size": 3, "dilation": (1, 2), "stride": (2, 1)},
        {"kernel_size": (3, 1), "padding": (2, 0), "stride": (1, 2)},
        {"kernel_size": 4, "padding": "same"},
        {"kernel_size": 2, "padding": "same", "dilation": 3},
        {"kernel_size": 3, "padding": "valid"},
        {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
        {"kernel_size": 5, "padding": 2, "padding_mode": "replicate", "stride": 2},
        {"kernel_size": 3, "padding": (1, 2), "padding_mode": "circular"},
        {"kernel_size": 4, "padding": "same", "padding_mode": "reflect"},
        {"kernel_size": 2, "padding": 4, "dilation": 3},
    ),
    **named(Windows.called, {"stride": 2, "padding": 1, "groups": 2}, {"padding": "same", "dilation": 2, "groups": 2}),
    **named(
        Windows.transposed,
        {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
        {"kernel_size": 4, "stride": 2, "padding": 1, "groups": 2, "bias": False},
        {"kernel_size": (3, 5), "stride": (1, 2), "padding": (0, 1)},
        {"kernel_size": 2, "stride": 3, "output_padding": 1},
        {"kernel_size": 3, "stride": 2, "dilation": 2},
    ),
    "blur": nn.Sequential(nn.Conv2d(4, 4, 1), BlurPool2d(4, 3, 2, "reflect")),
    "blur, even": nn.Sequential(nn.Conv2d(4, 4, 1), BlurPool2d(4, 4, 2, "constant")),
    "conv same": Conv2dSame(4, 4, (3, 2), dilation=2, groups=2, bias=False),
    "conv same, strided": Conv2dSame(4, 4, 3, 2),
    "standardised": StdConv2d(4, 4, 3, stride=2),
    "standardised, same": StdConv2dSame(4, 4, 4, stride=2),
    "standardised, scaled": ScaledStdConv2d(4, 4, 3, padding=1, bias=False),
    "standardised, scaled, same": ScaledStdConv2dSame(4, 4, 3, stride=3, bias=False),
    "zeros": nn.ZeroPad2d((1, 2, 0, 1)),
    "constant": nn.ConstantPad2d(2, 0.0),
    "reflection": nn.ReflectionPad2d((1, 2, 0, 1)),
    "replication": nn.ReplicationPad2d(2),
    "circle": nn.CircularPad2d((2, 0, 1, 1)),
    "F.pad": lambda x: F.pad(x, (0, 1, 2, 0)),
    "F.pad, replicate": lambda x: F.pad(x, [1] * 4, mode="replicate"),
    "F.pad, cropping": lambda x: F.pad(x, (-1, 1, 0, -2)),
    "zeros ahead": ahead(1, 2, 0, 1),
    "zeros ahead, strided": ahead(1, 2, 0, 1, stride=2, padding=2),
    "zeros ahead, twice": nn.Sequential(nn.ZeroPad2d((1, 0, 0, 1)), ahead(0, 2, 0, 0)),
    "zeros ahead, activated": nn.Sequential(nn.ZeroPad2d(2), nn.SiLU(), nn.Conv2d(4, 3, 3)),
    "zeros ahead of a pool": nn.Sequential(nn.ZeroPad2d(1), nn.AvgPool2d(3, 2, ceil_mode=True)),
    "zeros on one side, a pool": nn.Sequential(Function(lambda x: F.pad(x, (0, 3, 0, 0))), nn.AvgPool2d(2)),
    "max": nn.MaxPool2d(3, 2, 1),
    "max, ceil": nn.MaxPool2d(2, 2, 1, ceil_mode=True),
    "max, dilated": nn.MaxPool2d((2, 3), (1, 2), dilation=(2, 1)),
    "F.max_pool2d": lambda x: F.max_pool2d(x, 3, 3, ceil_mode=True),
    "average": nn.AvgPool2d(3, 2, 1),
    "average, inside": nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "average, ceil": nn.AvgPool2d(3, 2, ceil_mode=True, count_include_pad=False),
    "average, same": AvgPool2dSame(3, 2),
    "F.avg_pool2d": lambda x: F.avg_pool2d(x, 2, 2, 1, divisor_override=3),
    "power": nn.LPPool2d(2, 3, 2),
    **{f"bins {size}": nn.AdaptiveAvgPool2d(size) for size in (2, (1, 4), (None, 3), (12, 8))},
    "largest of bins": nn.AdaptiveMaxPool2d((3, 2)),
    "F.adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x, (3, 2)),
    "nearest": nn.Upsample((7, 11)),
    "nearest, scaled": lambda x: F.interpolate(x, scale_factor=3),
    "bilinear": nn.Upsample(scale_factor=2, mode="bilinear"),
    "bilinear, aligned": nn.UpsamplingBilinear2d(size=(7, 11)),
    "bilinear, 1.5": nn.Upsample(scale_factor=1.5, mode="bilinear", recompute_scale_factor=True),
    "bilinear, smaller": lambda x: F.interpolate(x, (3, 4), None, "bilinear"),
    "bilinear, by shape": lambda x: F.interpolate(x, x.shape[-2:], mode="bilinear", align_corners=False),
    "shuffle": nn.PixelShuffle(2),
    "F.pixel_unshuffle": lambda x: F.pixel_unshuffle(x[:, :, :8], 2),
    "space to depth": lambda x: torch.cat([x[..., :8:2, ::2], x[..., 1::2, ::2], x[..., :8:2, 1::2]], dim=1),
    "crop": lambda x: x[:, :, 1:-2, 3:],
    "group norm": nn.GroupNorm(2, 4, eps=1e-3),
    "instance norm": nn.InstanceNorm2d(4, affine=True, eps=1e-3),
    "group norm of timm": GroupNormAct(4, 2, eps=1e-3, apply_act=False),
    "F.group_norm": lambda x: F.group_norm(x, 1),
    "batch norm": randomise(nn.BatchNorm2d(4)),
    "batch norm without statistics": nn.BatchNorm2d(4, track_running_stats=False),
    "F.batch_norm": Function(
        lambda x, own: F.batch_norm(x, own.running_mean, own.running_var, own.weight), randomise(nn.BatchNorm2d(4))
    ),
    "response norm": Function(lambda x, own: own(x), GlobalResponseNorm(4, channels_last=False)),
    "response norm, channels last": Function(lambda x, own: channels_last(own)(x), GlobalResponseNorm(4)),
    "add": branches(operator.add),
    "iadd": branches(operator.iadd),
    "add_": branches(lambda left, right: left.add_(right)),
    "torch.add": branches(torch.add),
    "sub": branches(operator.sub),
    "isub": branches(operator.isub),
    "mul": branches(operator.mul),
    "imul": branches(operator.imul),
    "div": branches(lambda left, right: torch.div(left, right.abs() + 1)),
    "maximum": branches(torch.maximum),
    "minimum": branches(lambda left, right: left.minimum(right)),
    "lerp": branches(lambda left, right: torch.lerp(left, right, 0.25)),
    "addcmul": branches(lambda left, right: torch.addcmul(left, left, right, value=2)),
    "cat": branches(lambda left, right: torch.cat([left, right, left], dim=-3)),
    "concat": branches(lambda left, right: torch.concat([left, right], axis=1)),
    "stack, sum": branches(lambda left, right: torch.stack([left, right], dim=1).sum(dim=1)),
    "squeeze, module": squeezed(nn.AdaptiveAvgPool2d(1)),
    "squeeze, mean": squeezed(lambda x: x.mean((2, 3), keepdim=True)),
    "squeeze, function": squeezed(lambda x: F.adaptive_avg_pool2d(x, output_size=(1, 1))),
    "global mean": nn.AdaptiveAvgPool2d([1, 1]),
    "x.mean": lambda x: x.mean([2, 3]),
    "torch.mean": lambda x: torch.mean(x, dim=(-1, -2)),
    "mean, channels last": lambda x: x.permute(0, 2, 3, 1).mean((1, 2)),
    "global maximum": nn.AdaptiveMaxPool2d(1),
    "x.sum": lambda x: x.sum((2, 3)),
    "x.amax": lambda x: x.amax((-2, -1)),
    "x.norm": lambda x: (x + 2).norm(p=2, dim=(2, 3)),
    "flatten": nn.Sequential(nn.Flatten(), nn.Linear(288, 3), nn.Softmax(dim=1)),
    "torch.flatten": lambda x: torch.flatten(x, 1, 3),
    "view": lambda x: x.view(x.size(0), -1),
    "torch.reshape": lambda x: torch.reshape(x, (-1, 288)),
}


@pytest.mark.parametrize("name", WINDOWED)
def test_an_operation_computes_what_the_reference_does_with_all_options(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = copy.deepcopy(as_network(WINDOWED[name]))
        for number, parameter in enumerate(module.parameters()):
            parameter.data = 0.5 + draw_features(1, 1, 1, parameter.numel(), seed=number).reshape(parameter.shape)
    for options in OPTIONS:
        for training in (False, True) if "norm" in name else (True,):
            assert_as_reference(module, draw_features(6, 4, *SIZE), draw_visible(*SIZE), training=training, **options)


@pytest.mark.xfail(strict=True, reason="`find_dropped` takes the positions that a network returns for dropped ones")
def test_new_positions_of_a_map_that_is_returned_are_computed_from_all_of_the_padding() -> None:
    network = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
    assert_as_reference(network, draw_features(6, 4, *SIZE), draw_visible(*SIZE))


def test_branches_stacked_along_the_first_axis_to_be_summed_are_a_residual_sum() -> None:
    stacked, added = (
        branches(merge)
        for merge in (lambda left, right: torch.stack([left, right, right]).sum(dim=0), lambda a, b: a + 2 * b)
    )
    added.load_state_dict(stacked.state_dict())
    images, visible = draw_features(6, 4, *SIZE).float(), draw_visible(*SIZE)
    for options in OPTIONS:
        results = [LayerMasking(each, **options)(images, visible) for each in (stacked, added)]
        torch.testing.assert_close(*results)


def test_a_plain_branch_is_known_everywhere_and_shows_no_position() -> None:
    plain, features, visible = draw_features(6, 2, 7, 6, seed=1), draw_features(6, 4, 7, 6), draw_visible(7, 6)
    output = LayerMasking(as_network(lambda x: torch.cat([x, plain], dim=1)))(features, visible)
    assert torch.equal(output, torch.where(visible, torch.cat([features, plain], dim=1), 0))


def alike(*, size: tuple[int, int] = SIZE, training: bool = False, **networks: nn.Module) -> None:
    """Under a mask these compute the same."""
    images, visible = draw_features(6, 4, *size), draw_visible(*size)
    masked = [LayerMasking(as_network(network).double().train(training)) for network in networks.values()]
    torch.testing.assert_close(*(each(images, visible) for each in masked))


@pytest.mark.parametrize("training", [False, True])
def test_timms_layers_are_what_they_are_made_of(training: bool) -> None:
    norm, head = randomise(BatchNormAct2d(4, act_layer=nn.SiLU)), ConvMlp(4, 6, 3)
    alike(training=training, one=norm, other=nn.Sequential(randomise(nn.BatchNorm2d(4)), nn.SiLU()))
    alike(one=head, other=nn.Sequential(head.fc1, nn.ReLU(), head.fc2, nn.ReLU()))
    alike(size=(9, 9), one=MaxPool2dSame(3, 2), other=nn.MaxPool2d(3, 2, 1))
    alike(one=nn.Sequential(nn.AvgPool2d(4), head), other=nn.Sequential(nn.AvgPool2d(4), nn.AdaptiveAvgPool2d(3), head))
    sliced = Function(lambda x: torch.cat([x[:, :, row::4, column::4] for row in range(4) for column in range(4)], 1))
    alike(size=(8, 12), one=SpaceToDepth(4), other=sliced)


@pytest.mark.parametrize("geometry", [{}, {"stride": 2, "padding": "same"}, {"groups": 2, "padding": "valid"}], ids=str)
def test_a_conditional_convolution_has_each_images_own_kernel(geometry: dict[str, Any]) -> None:
    conv = CondConv2d(4, 6, 3, num_experts=3, bias=True, **geometry)
    images, visible = draw_features(6, 4, *SIZE).float(), draw_visible(*SIZE)
    routes = torch.rand(6, 3, generator=torch.Generator().manual_seed(0))
    output = LayerMasking(Function(lambda x, own: own(x, routes), conv))(images, visible)
    for image in range(6):
        one = slice(image, image + 1)
        alone = LayerMasking(Function(lambda x, own, one=one: own(x, routes[one]), conv))(images[one], visible[one])
        torch.testing.assert_close(output[one], alone)
