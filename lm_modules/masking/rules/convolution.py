"""Rules for convolutions of every kind, and for padding before them."""

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from maskrobust.lm_modules.masking.masked import Masked, carry
from maskrobust.lm_modules.masking.memory import Frame, share_memory
from maskrobust.lm_modules.masking.rules.pointwise import OWN_RULE, check_images_first
from maskrobust.lm_modules.masking.table import LosesMap, Operation, masking_rule
from maskrobust.lm_modules.masking.visible_map import Padding, Window

NO_PADDING: Padding = (0, 0, 0, 0)


@masking_rule(F.conv2d, any_sizes=True)
def convolution(
    operation: Operation,
    x: Masked,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | str = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> Masked:
    """Neighbour padding, the convolution as usual, mask propagation.

    Raises:
        NotImplementedError: weights are made from masked features.
    """
    _check_weights(weight, bias)
    kernel_size, dilations = (weight.shape[2], weight.shape[3]), pair(dilation)
    window = Window(kernel_size, pair(stride), _convolution_padding(padding, kernel_size, dilations), dilations)

    def convolve(features: Tensor) -> Tensor:
        return operation(features, weight, bias, stride, padding, dilation, groups)  # type: ignore[no-any-return]

    return slide(x, window, convolve, hidden="neighbours")


@masking_rule(F.conv_transpose2d, any_sizes=True)
def transposed_convolution(
    operation: Operation,
    x: Masked,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    output_padding: int | tuple[int, int] = 0,
    groups: int = 1,
    dilation: int | tuple[int, int] = 1,
) -> Masked:
    """An output is visible when a visible input reaches it; inputs that reach one output are (k - 1) d / s apart."""
    _check_weights(weight, bias)
    check_images_first(x)
    kernel_size, steps = (weight.shape[2], weight.shape[3]), pair(stride)
    sizes = zip(kernel_size, pair(dilation), steps, strict=True)
    rings = max((size - 1) * spread // step for size, spread, step in sizes)
    geometry = steps, pair(padding), pair(output_padding)
    padded = x.with_zero_outside(x.with_neighbour_padding(rings))
    features = operation(padded, weight, bias, *geometry, groups, dilation)

    def reached(numbers: Tensor) -> Tensor:
        window = torch.ones(1, 1, *kernel_size, device=numbers.device)
        return F.conv_transpose2d(numbers, window, None, *geometry, 1, dilation)

    key = ("transposed", kernel_size, geometry, pair(dilation))

    def extent_after(extent: Tensor) -> Tensor:
        before, more, size, spread, step = (
            extent.new_tensor(each) for each in (geometry[1], geometry[2], kernel_size, pair(dilation), steps)
        )
        return (extent - 1) * step - 2 * before + (size - 1) * spread + more + 1

    result = carry(features, x.visible.derive(key, reached, least=0.5, extent_after=extent_after))
    result.rings = rings
    return result


@masking_rule(F.pad, any_sizes=True)
def pad(
    _operation: Operation, x: Masked, pad: tuple[int, ...], mode: str = "constant", value: float | None = None
) -> Masked:
    """Frame or crop: zeros are hidden positions, as those that a convolution adds; other modes frame the mask alike.

    Raises:
        NotImplementedError: more than height and width is padded, or with a constant other than 0, and minus infinity
            ahead of a max pool.
    """
    filler = 0.0 if value is None else float(value)
    if mode == "constant" and filler not in (0.0, -math.inf):
        raise NotImplementedError(f"layer masking pads with 0 only, got the constant {value}; {OWN_RULE}")
    if not x.is_images_first:
        raise LosesMap(f"layer masking pads the axes of images and positions only, got {tuple(pad)}; {OWN_RULE}")
    if len(pad) != 4:
        raise NotImplementedError(
            f"layer masking pads height and width of (B, C, H, W) features only, got {tuple(pad)} for shape "
            f"{tuple(x.shape)} with axes {x.axes}; {OWN_RULE}"
        )
    left, right, top, bottom = (int(size) for size in pad)
    sizes = (left, right, top, bottom)
    is_frame = mode == "constant" and min(sizes) >= 0

    def extent_after(extent: Tensor) -> Tensor:
        return extent + extent.new_tensor((top + bottom, left + right))

    visible = x.visible.derive(
        ("pad", sizes, mode),
        lambda numbers: F.pad(numbers, sizes, mode),
        extent_after=extent_after if is_frame else None,
    )
    padded = carry(F.pad(x.visible.cut(x.features, filler), sizes, mode, value), visible)
    if is_frame:
        inside, before = (x, NO_PADDING) if x.frame is None or x.frame.value != filler else x.frame[:2]
        padded.frame = Frame(inside, _sum(before, sizes), filler, share_memory(inside).state)
    return padded


def slide(
    x: Masked,
    window: Window,
    compute: Callable[[Tensor], Tensor],
    *,
    hidden: Literal["neighbours", "zero"],
    outside: float = 0.0,
) -> Masked:
    """What every convolution and pool does: hidden positions get a value, then computation, then mask propagation.

    Args:
        x: (B, C, H, W) masked features.
        window: of the computation.
        compute: the plain computation, alone in taking what it is given.
        hidden: what it reads at hidden positions: neighbour padding as far as the window reaches, or 0.
        outside: what it reads in its own padding, and outside of images that are smaller than the map.

    Raises:
        NotImplementedError: the features are not (B, C, H, W).
    """
    # In ceil mode windows may start in a frame, but not in their own padding.
    frame = None if window.ceil_mode or not isinstance(x, Masked) else x.frame
    inside = x if frame is None else frame.inside
    check_images_first(inside)
    if frame is not None:
        window = window._replace(padding=_sum(window.padding, frame.padding))
    rings = window.rings if hidden == "neighbours" else 0
    features: Tensor = inside
    if inside.visible.is_whole:
        pass
    elif hidden == "zero":
        features = inside.with_hidden_zero()
    elif rings and not inside.visible.is_whole_under(window):
        features = inside.with_neighbour_padding(rings, owns_gradient=True)
    reads_beyond = inside.visible.extent is not None and window.reads_beyond
    value = outside if frame is None else frame.value
    if reads_beyond:
        features = inside.with_zero_outside(features) if value == 0 else inside.visible.cut(features, value)
    if frame is not None:
        features = F.pad(features, frame.padding, value=frame.value)
        if reads_beyond and value != outside:
            features = x.visible.cut(features, outside)
    visible, computed = inside.visible.window(window), compute(features)
    if reads_beyond and outside != 0:
        computed = visible.cut(computed)  # finite everywhere
    result = carry(computed, visible)
    result.rings = rings
    return result


def pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    """(vertical, horizontal) of an argument that may be one number for both."""
    if isinstance(value, int):
        return value, value
    return (value[0], value[-1])


def symmetric(padding: int | tuple[int, ...]) -> Padding:
    """(left, right, top, bottom) of a padding given as a number or as (vertical, horizontal)."""
    vertical, horizontal = pair(padding)
    return horizontal, horizontal, vertical, vertical


def _check_weights(weight: Tensor, bias: Tensor | None) -> None:
    if isinstance(weight, Masked) or isinstance(bias, Masked):
        raise NotImplementedError(
            "layer masking needs convolutions whose weights are not made from masked features; give the module around "
            "this operation a rule of its own with masking_rule."
        )


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
