"""Convolutions of every kind, and padding ahead of them."""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskrobust.lm_modules.masking.masked import Masked, Padding, VisibleMap, Window, ZeroPadded
from maskrobust.lm_modules.masking.row_features import Rows
from maskrobust.lm_modules.masking.rules.table import Operation, RowKernel, masking_rule
from maskrobust.lm_modules.masking.state import twin

NO_PADDING: Padding = (0, 0, 0, 0)


def slide(
    x: Masked, window: Window, compute: Callable[[Tensor], Tensor], *, hidden: Literal["neighbours", "zero"]
) -> Masked:
    """What every convolution and pool does: hidden positions get a value, then computation, then mask propagation.

    Args:
        x: (B, C, H, W) masked features.
        window: of the computation.
        compute: the plain computation.
        hidden: what it reads at hidden positions: neighbour padding as far as the window reaches, or 0.

    Raises:
        NotImplementedError: the features are not (B, C, H, W).
    """
    # In ceil mode windows may start in a frame, but not in their own padding.
    inside, frame = (x, NO_PADDING) if window.ceil_mode else _frame(x)
    if inside.channels_last or inside.features.ndim != 4:
        raise NotImplementedError(
            f"layer masking slides windows over features (B, C, H, W), got shape {tuple(inside.features.shape)} with "
            f"channels_last={inside.channels_last}; permute them first."
        )
    if frame != NO_PADDING:
        window = window._replace(padding=_sum(window.padding, frame))
    rings = window.rings if hidden == "neighbours" else 0
    if hidden == "zero":
        features = inside.with_hidden_zero()
    else:
        features = inside.with_neighbour_padding(0 if rings and inside.visible.is_whole_under(window) else rings)
    if frame != NO_PADDING:
        features = F.pad(features, frame)
    return Masked(compute(features), inside.visible.window(window), rings=rings)


def pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    """(vertical, horizontal) of an argument that may be one number for both."""
    if isinstance(value, int):
        return value, value
    return (value[0], value[-1])


def symmetric(padding: int | tuple[int, ...]) -> Padding:
    """(left, right, top, bottom) of a padding given as a number or as (vertical, horizontal)."""
    vertical, horizontal = pair(padding)
    return horizontal, horizontal, vertical, vertical


def convolution_window(operation: nn.Conv2d, *_args: Any) -> Window:
    """The window of a convolution module, as it pads itself."""
    geometry = pair(operation.kernel_size), pair(operation.dilation)
    padding = _convolution_padding(operation.padding, *geometry)
    return Window(geometry[0], pair(operation.stride), padding, geometry[1])


def _convolve_rows(operation: nn.Conv2d, outputs: VisibleMap, x: Rows) -> Tensor:
    weight = operation.weight.permute(0, 2, 3, 1).flatten(1)
    return F.linear(x.under(convolution_window(operation), outputs), weight, operation.bias)


def _is_plain(operation: nn.Conv2d) -> bool:
    return type(operation) is nn.Conv2d and operation.groups == 1 and operation.padding_mode == "zeros"


@masking_rule(nn.Conv2d, rows=RowKernel(_convolve_rows, _is_plain, convolution_window), folds=True)
def convolution(operation: nn.Conv2d, x: Masked, *args: Any) -> Masked:
    """Neighbour padding, the convolution as usual, mask propagation.

    Padding by reflection, repetition or wrapping first pads features and mask alike.
    """
    window = convolution_window(operation)
    if operation.padding_mode == "zeros":
        return slide(x, window, lambda features: operation(features, *args), hidden="neighbours")
    framed = pad(F.pad, x, window.padding, operation.padding_mode)
    return slide(framed, window._replace(padding=NO_PADDING), _without_padding(operation), hidden="neighbours")


def _without_padding(operation: nn.Conv2d) -> Callable[[Tensor], Tensor]:
    """What the module computes of features that have been padded."""
    method = getattr(operation._conv_forward, "__func__", None)
    if method is nn.Conv2d._conv_forward and "forward" not in operation.__dict__:
        stride, dilation, groups = operation.stride, operation.dilation, operation.groups
        return lambda features: F.conv2d(features, operation.weight, operation.bias, stride, 0, dilation, groups)
    return twin(operation, padding=(0, 0), padding_mode="zeros")


@masking_rule(F.conv2d)
def functional_convolution(
    operation: Operation,
    x: Masked,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | str = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> Masked:
    """The same for a functional call; the weight may be computed, but not from masked features."""
    kernel_size, dilations = (weight.shape[2], weight.shape[3]), pair(dilation)
    window = Window(kernel_size, pair(stride), _convolution_padding(padding, kernel_size, dilations), dilations)
    return slide(
        x,
        window,
        lambda features: operation(features, weight, bias, stride, padding, dilation, groups),
        hidden="neighbours",
    )


@masking_rule(nn.ConvTranspose2d)
def transposed_convolution(operation: nn.ConvTranspose2d, x: Masked) -> Masked:
    """An output is visible when a visible input reaches it; inputs that reach one output are (k - 1) d / s apart."""
    sizes = zip(operation.kernel_size, operation.dilation, operation.stride, strict=True)
    rings = max((size - 1) * step // stride for size, step, stride in sizes)
    features = operation(x.with_neighbour_padding(rings))
    assert not isinstance(operation.padding, str)
    kernel_size, padding, stride = pair(operation.kernel_size), pair(operation.padding), pair(operation.stride)
    extra, dilation = pair(operation.output_padding), pair(operation.dilation)

    def reached(numbers: Tensor) -> Tensor:
        window = torch.ones(1, 1, *kernel_size, device=numbers.device)
        return F.conv_transpose2d(numbers, window, None, stride, padding, extra, 1, dilation)

    key = ("transposed", kernel_size, stride, padding, extra, dilation)
    visible = x.visible.derive(key, reached, least=0.5)
    return Masked(features, visible, rings=rings)


def _check_constant(value: float | None) -> None:
    if value not in (None, 0, 0.0):
        raise NotImplementedError(
            f"layer masking pads with 0 only, got the constant {value}; give the module around this operation a rule "
            "of its own with masking_rule."
        )


@masking_rule(
    nn.ZeroPad2d,
    nn.ConstantPad2d,
    nn.ReflectionPad2d,
    nn.ReplicationPad2d,
    nn.CircularPad2d,
    check=lambda operation, *_args: _check_constant(getattr(operation, "value", 0.0)),
)
def padding_module(operation: Any, x: Masked) -> Masked:
    """Padding as a layer of its own."""
    modes = {nn.ReflectionPad2d: "reflect", nn.ReplicationPad2d: "replicate", nn.CircularPad2d: "circular"}
    mode = next((modes[kind] for kind in type(operation).__mro__ if kind in modes), "constant")
    return pad(F.pad, x, tuple(operation.padding), mode)


@masking_rule(F.pad, check=lambda *args, value=None, **_: _check_constant(args[4] if len(args) > 4 else value))
def pad(
    _operation: Operation, x: Masked, pad: tuple[int, ...], mode: str = "constant", value: float | None = None
) -> Masked:
    """Frame or crop: zeros are hidden positions, as those that a convolution adds; other modes frame the mask alike.

    Raises:
        NotImplementedError: more than height and width is padded.
    """
    if len(pad) != 4 or x.channels_last or x.features.ndim != 4:
        raise NotImplementedError(
            f"layer masking pads height and width of (B, C, H, W) features only, got {tuple(pad)} for shape "
            f"{tuple(x.features.shape)}; give the module around this operation a rule of its own."
        )
    left, right, top, bottom = (int(size) for size in pad)
    sizes = (left, right, top, bottom)

    visible = x.visible.derive(("pad", sizes, mode), lambda numbers: F.pad(numbers, sizes, mode))
    features = F.pad(x.features, sizes, mode, value)
    if mode == "constant" and min(sizes) >= 0:
        inside, frame = _frame(x)
        return ZeroPadded(features, visible, inside=inside, padding=_sum(frame, sizes))
    return Masked(features, visible)


def _frame(x: Masked) -> tuple[Masked, Padding]:
    """What was framed with zeros, and how far."""
    return (x.inside, x.padding) if isinstance(x, ZeroPadded) and x.inside else (x, NO_PADDING)


def _sum(first: Padding, second: Padding) -> Padding:
    left, right, top, bottom = (one + other for one, other in zip(first, second, strict=True))
    return left, right, top, bottom


def _convolution_padding(
    padding: str | int | tuple[int, ...], kernel_size: tuple[int, int], dilation: tuple[int, int]
) -> Padding:
    """Padding of a convolution; "same" puts the odd position right and below."""
    if padding == "valid":
        return NO_PADDING
    if padding == "same":
        vertical, horizontal = ((size - 1) * step for size, step in zip(kernel_size, dilation, strict=True))
        return horizontal // 2, math.ceil(horizontal / 2), vertical // 2, math.ceil(vertical / 2)
    assert not isinstance(padding, str)
    return symmetric(padding)
