"""Operations by name, of positions alone and of neighbours, as people write them in a forward."""

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from timm.layers import BlurPool2d, GroupNormAct, LayerNorm2d, StdConv2d
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.grn import GlobalResponseNorm
from timm.layers.pool2d_same import AvgPool2dSame
from timm.layers.std_conv import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2dSame
from torch import Tensor, nn
from torch.nn import functional as F

from tests.lm_modules.masking.cases import Function
from tests.lm_modules.masking.networks import randomise

Operation = nn.Module | Callable[..., Any]


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


SMOOTH: dict[str, Operation] = {
    "x / x.norm(1)": lambda x: x / (0.1 + x.norm(dim=1, keepdim=True)),
    "x * rsqrt(x.square().mean(1))": lambda x: x * (0.1 + x.square().mean(1, keepdim=True)).rsqrt(),
    "log(x * x + 0.1)": lambda x: (x * x + 0.1).log(),
    "log1p(|x|)": lambda x: torch.log1p(x.abs()),
    "sqrt(|x| + 0.1)": lambda x: (x.abs() + 0.1) ** 0.5,
    "exp(-x * x)": lambda x: torch.exp(-(x * x)),
    "1 / (x * x + 0.2)": lambda x: 1 / (x * x + 0.2),
    "reciprocal(2 + tanh(x))": lambda x: (2 + x.tanh()).reciprocal(),
    "2 ** tanh(x)": lambda x: 2 ** x.tanh(),
    "x * x.amax(1).sigmoid()": lambda x: x * x.amax(dim=1, keepdim=True).sigmoid(),
}
"""Of positions alone, and finite wherever they are."""
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
    "lgamma": lambda x: torch.lgamma(x.square()),
    "atan2": lambda x: torch.atan2(x, x),
    "remainder": lambda x: x.exp() % x.square().detach(),
    "erfinv": lambda x: torch.erfinv(1 - x.square().tanh() / 2),
    "acosh": lambda x: torch.arccosh(1 + x.square()),
    "local response norm": nn.LocalResponseNorm(3, k=0.0),
    "changed in place": lambda x: F.relu(x).add(1).div_(x.square().sum(1, keepdim=True)),
}
"""Quotients, roots, powers and logarithms, which are infinite where hidden features are 0."""
_ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Hardsigmoid,
    nn.Hardtanh, nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Softplus, nn.Softsign,
)  # fmt: skip
_MODULES = [nn.Threshold(0.1, 0.2), *(kind() for kind in _ACTIVATIONS)]
_MODULES += [nn.Identity(), nn.Softmax2d(), nn.LocalResponseNorm(3), nn.PReLU(6), nn.ChannelShuffle(2), LayerNorm2d(6)]
_MODULES += [nn.Softmax(dim=1), nn.LogSoftmax(1), nn.GLU(1), nn.Softshrink(0.2), nn.Hardshrink(0.2)]
ALONE: dict[str, Operation] = {
    **SMOOTH,
    **{type(module).__name__: module for module in _MODULES},
    "activations": lambda x: F.silu(F.leaky_relu(F.gelu(x), 0.2)) + torch.sigmoid(x).tanh(),
    "arithmetic": lambda x: (-x).abs().exp().sqrt().clamp(max=1.2) ** 2,
    "numbers": lambda x: (2 - x) / 3 + x * 0.5 - 1 + (3 - x),
    "plain tensors": lambda x: (torch.ones(6, 1, 1) - x) * torch.full((1, 6, 1, 1), 2.0) + x,
    "hard swish by hand": lambda x: x * F.relu6(x + 3) / 6,
    "dropout in eval mode": lambda x: F.dropout(x, 0.5, training=False),
    "rrelu in eval mode": F.rrelu,
    "by name": lambda x: torch.relu(input=x),
    "casts": lambda x: x.contiguous().clone().to(torch.float64).type_as(x),
    "in place": activated_in_place(torch.relu_),
    "in place, by argument": activated_in_place(lambda y: F.relu(y, inplace=True)),
    "linear": Function(lambda x, own: channels_last(own)(x), nn.Linear(6, 3)),
    "F.linear": Function(lambda x, own: channels_last(lambda y: F.linear(y, own.weight, own.bias))(x), nn.Linear(6, 3)),
    "layer norm": Function(lambda x, own: channels_last(own)(x), nn.LayerNorm(6)),
    "F.layer_norm": channels_last(lambda x: F.layer_norm(x, normalized_shape=(6,), eps=1e-5)),
    "F.normalize": lambda x: F.normalize(x) + F.normalize(x, p=1.0, dim=-3, eps=1e-6),
    "F.softmax": lambda x: F.softmax(x, dim=1),
    "x.log_softmax": lambda x: x.log_softmax(-3),
    "softmax, channels last": channels_last(lambda x: x.softmax(-1)),
    "norm, sum and mean, by position": lambda x: x.norm(2, 1, True) + torch.norm(x, 1, -3, True) + x.sum(1, True),
    "mean of channels": lambda x: x.mean(1, keepdim=True),
    "chunk, by name, and unbind": lambda x: x.chunk(chunks=3, dim=-3)[2] + x.unbind(1)[4].unsqueeze(1),
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
    "images behind channels": lambda x: (x.transpose(0, 1) * 2).tanh().swapaxes(0, 1),
    "images behind groups": lambda x: x.view(x.size(0), 2, 3, *x.shape[2:]).permute(1, 0, 2, 3, 4).sum(0),
    "a new first axis": lambda x: x[None].sigmoid().sum(0),
    "moved axes": lambda x: torch.movedim(x, (1, 2), (-1, 1)).tanh().moveaxis(3, 1),
    "largest and least channel": lambda x: torch.cat([x.max(1, keepdim=True)[0], x.min(dim=1, keepdim=True).values], 1),
    "larger of two": lambda x: torch.max(x, x.square()) - x.min(x.square()),
    "chosen": lambda x: torch.where((x > 0) & ~(x >= 0.5) | (x == -1), x, x.sin()) + x.where(x < 0.3, 1.0),
    "filled": lambda x: x.masked_fill(x < 0, math.inf).clamp(max=2.0) + torch.masked_fill(x, x > 0, 0.5),
    "whole numbers": lambda x: x * ((x * 8).long() % 3 + 7 % (x.round().int().abs() + 1)),
    "a transposed map": lambda x: x.transpose(2, 3).softmax(1).transpose(3, 2),
}


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
    "bicubic": lambda x: F.interpolate(x, (9, 5), mode="bicubic"),
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
    "stack ahead of images, sum": branches(lambda left, right: torch.stack([left, right, left]).sum(0)),
    "stack ahead of images, means": branches(lambda left, right: torch.stack([left, right]).mean((-2, -1)).sum(0)),
    "stack, sum": branches(lambda left, right: torch.stack([left, right], dim=1).sum(dim=1)),
    "squeeze, module": squeezed(nn.AdaptiveAvgPool2d(1)),
    "squeeze, mean": squeezed(lambda x: x.mean((2, 3), keepdim=True)),
    "squeeze, function": squeezed(lambda x: F.adaptive_avg_pool2d(x, output_size=(1, 1))),
    "global mean": nn.AdaptiveAvgPool2d([1, 1]),
    "x.mean": lambda x: x.mean([2, 3]),
    "torch.mean": lambda x: torch.mean(x, dim=(-1, -2)),
    "mean, channels last": lambda x: x.permute(0, 2, 3, 1).mean((1, 2)),
    "mean, images behind channels": lambda x: x.transpose(0, 1).mean((2, 3)).mT,
    "mean, a new first axis": lambda x: x[None].mean((-1, -2))[0],
    "largest, images behind channels": lambda x: x.transpose(0, 1).amax((2, 3)).mT,
    "global maximum": nn.AdaptiveMaxPool2d(1),
    "x.sum": lambda x: x.sum((2, 3)),
    "x.amax": lambda x: x.amax((-2, -1)),
    "average of all": lambda x: F.avg_pool2d(x, x.shape[2:]),
    "average of all, ceil": nn.AvgPool2d(12, 13, ceil_mode=True),
    "average of all, a divisor": lambda x: F.avg_pool2d(x, x.shape[2:], divisor_override=5),
    "largest of all": lambda x: F.max_pool2d(x, x.shape[2:]),
    "squeeze, average of all": squeezed(lambda x: F.avg_pool2d(x, x.shape[2:], count_include_pad=False)),
    "mean of means": lambda x: x.mean(3).mean(2),
    "mean of means, kept": lambda x: x.mean(2, keepdim=True).mean(3, keepdim=True),
    "mean of activated means": lambda x: x.mean(3).sigmoid().mean(-1),
    "means of rows": lambda x: x * x.mean(-1, keepdim=True).sigmoid() + x.mean(2, True),
    "largest of largest": lambda x: x.amax(2).amax(-1) + x.permute(0, 2, 3, 1).amax(1).amax(1),
    "sums of rows": lambda x: x.sum(3),
    "sum by ones": lambda x: x.sum((2, 3)) / torch.ones_like(x).sum((2, 3)),
    "x.norm": lambda x: (x + 2).norm(p=2, dim=(2, 3)),
    "x.norm, by position": lambda x: (x + 2).norm(1, (-1, -2), True),
    "flatten": nn.Sequential(nn.Flatten(), nn.Linear(288, 3), nn.Softmax(dim=1)),
    "torch.flatten": lambda x: torch.flatten(x, 1, 3),
    "view": lambda x: x.view(x.size(0), -1),
    "torch.reshape": lambda x: torch.reshape(x, (-1, 288)),
}


def windowed_along(axes: int) -> dict[str, Operation]:
    """Operations on neighbours of positions with 1 or 3 axes, for 4 channels."""

    def layer(name: str, *settings: Any, **named: Any) -> nn.Module:
        return getattr(nn, f"{name}{axes}d")(*settings, **named)

    def zeros_ahead(*sizes: int, **geometry: Any) -> nn.Module:
        return nn.Sequential(layer("ZeroPad", sizes), layer("Conv", 4, 3, 3, **geometry))

    pad = (1, 2, 0, 1, 2, 0)[: 2 * axes]
    over = tuple(range(2, 2 + axes))
    to_last, to_second = (0, *over, 1), (0, 1 + axes, *range(1, 1 + axes))
    linear = {1: "linear", 3: "trilinear"}[axes]
    return {
        "conv same, even": layer("Conv", 4, 4, 4, padding="same"),
        "conv same, dilated": layer("Conv", 4, 4, 2, padding="same", dilation=3),
        "conv, strided": layer("Conv", 4, 4, 3, 2, 1, groups=2),
        "conv, dilated beyond": layer("Conv", 4, 4, 2, padding=4, dilation=3),
        "conv, uneven": layer("Conv", 4, 4, (1, 2, 3)[-axes:], (1, 1, 2)[-axes:], (0, 2, 1)[-axes:]),
        "conv, replicate": layer("Conv", 4, 4, 5, 2, 2, padding_mode="replicate"),
        "conv, circular": layer("Conv", 4, 4, 3, padding=1, padding_mode="circular"),
        "transposed": layer("ConvTranspose", 4, 6, 3, 2, 1, output_padding=1),
        "transposed, sparse": layer("ConvTranspose", 4, 6, 2, 3, output_padding=1),
        "zeros": layer("ZeroPad", pad),
        "zeros ahead": zeros_ahead(*pad),
        "zeros ahead, strided": zeros_ahead(*pad, stride=2, padding=2),
        "causal": Function(lambda x, own: own(F.pad(x, (4, 0))), layer("Conv", 4, 4, 3, dilation=2)),
        "zeros ahead of a pool": nn.Sequential(layer("ZeroPad", 1), layer("AvgPool", 3, 2, ceil_mode=True)),
        "more channels": lambda x: F.pad(x, (*[0] * 2 * axes, 1, 2)),
        "max": layer("MaxPool", 3, 2, 1),
        "max, ceil": layer("MaxPool", 2, 2, 1, ceil_mode=True),
        "max, dilated": layer("MaxPool", 2, 1, dilation=2),
        "average": layer("AvgPool", 3, 2, 1),
        "average, inside": layer("AvgPool", 3, 2, 1, count_include_pad=False),
        "average, ceil": layer("AvgPool", 3, 2, ceil_mode=True, count_include_pad=False),
        "power": layer("LPPool", 2, 3, 2),
        "bins": layer("AdaptiveAvgPool", (3, None, 2)[-axes:]),
        "largest of bins": layer("AdaptiveMaxPool", 2),
        "nearest": nn.Upsample(scale_factor=2),
        "linear": nn.Upsample(scale_factor=1.5, mode=linear),
        "linear, by shape": lambda x: F.interpolate(x, x.shape[2:], mode=linear, align_corners=True),
        "linear, smaller": lambda x: F.interpolate(x, scale_factor=0.6, mode=linear),
        "crop": lambda x: x[..., 1:-1],
        "repeat": lambda x: x.repeat(1, 2, *[1] * axes),
        "normalised along positions": lambda x: F.normalize(x, dim=-1),
        "instance norm": layer("InstanceNorm", 4, affine=True, eps=1e-3),
        "batch norm without statistics": layer("BatchNorm", 4, track_running_stats=False),
        "channels last": Function(
            lambda x, norm, own: own(norm(x.permute(to_last))).permute(to_second), nn.LayerNorm(4), nn.Linear(4, 6)
        ),
        "average of all": lambda x: getattr(F, f"avg_pool{axes}d")(x, x.shape[2:]),
        "largest of all": lambda x: getattr(F, f"max_pool{axes}d")(x, x.shape[2:]),
        "mean of means": lambda x: x.mean(-1, keepdim=True).mean(over, keepdim=True),
        "squeeze": Function(lambda x, own: x * own(x.mean(over, keepdim=True)).sigmoid(), layer("Conv", 4, 4, 1)),
        "squeeze, module": Function(
            lambda x, pool, own: x * own(pool(x)).sigmoid(), layer("AdaptiveAvgPool", 1), layer("Conv", 4, 4, 1)
        ),
        "cat": Function(lambda x, own: torch.cat([own(x), x], 1), layer("Conv", 4, 4, 3, padding=1)),
    }  # fmt: skip
