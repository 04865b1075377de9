"""Rules for operations that compute each position from that position alone, such as activations."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from maskrobust.lm_modules.masking.masked import Masked, carry, check_images_first, without_axes
from maskrobust.lm_modules.masking.table import LosesMap, Operation, masking_rule
from maskrobust.lm_modules.masking.visible_map import VisibleMap

OWN_RULE = "give the module around this operation a rule of its own with masking_rule."
ACTIVATIONS = (
    F.relu, F.relu6, F.leaky_relu, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish, F.hardswish, F.hardsigmoid,
    F.hardtanh, F.logsigmoid, F.softplus, F.softsign, F.tanhshrink, F.sigmoid, F.tanh, torch.threshold, torch.relu,
    torch.sigmoid, torch.tanh,
)  # fmt: skip
ARITHMETIC = (
    torch.neg, torch.abs, torch.square, torch.clamp, torch.clip, torch.mul,
    torch.addcmul, torch.lerp, torch.maximum, torch.minimum,
)  # fmt: skip
COPIES = (torch.clone, torch.detach, Tensor.float, Tensor.double, Tensor.half, Tensor.bfloat16)
DROPOUT = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout)
QUOTIENTS = (torch.div, torch.true_divide)
SINGULAR = (
    torch.pow, torch.exp, torch.log, torch.log2, torch.log10, torch.log1p, torch.reciprocal, torch.rsqrt, torch.sqrt,
)  # fmt: skip


@masking_rule(*ACTIVATIONS, *ARITHMETIC, *COPIES, *DROPOUT, any_sizes=True)
def pointwise(operation: Operation, *operands: Any, **kwargs: Any) -> Masked:
    """Known where every masked operand is; a number or plain tensor is known everywhere."""
    masked = masked_operands(*operands, *kwargs.values())
    return at_each_position(operation(*operands, **kwargs), masked[0], known(masked))


@masking_rule(F.threshold, any_sizes=True)
def threshold(_operation: Operation, x: Masked, threshold: float, value: float, inplace: bool = False) -> Masked:  # noqa: ARG001
    """By torch's function of that name: `torch.compile` traces this one, where it would meet `x` again."""
    result = pointwise(torch.threshold, x, threshold, value)
    result.is_of_copies = True
    return result


@masking_rule(Tensor.to, Tensor.type_as, Tensor.cpu, Tensor.cuda, any_sizes=True)
def moved(operation: Operation, x: Any, *args: Any, **kwargs: Any) -> Masked | Tensor:
    """The same in another dtype or on another device; of a plain tensor that goes where masked features are, plain."""
    result = operation(x, *args, **kwargs)
    if not isinstance(x, Masked):
        return torch.as_tensor(result)
    return carry(result, x.visible.on(result.device), x.axes)


@masking_rule(*QUOTIENTS, any_sizes=True)
def quotient(operation: Operation, numerator: Any, denominator: Any, **kwargs: Any) -> Masked:
    """The same, divided by 1 at hidden positions: by whatever else is there, value or gradient may be NaN."""
    masked = masked_operands(numerator, denominator)
    visible = known(masked)
    if isinstance(denominator, Masked):
        denominator = _with_hidden_one(denominator, visible)
    elif isinstance(denominator, Tensor) and not visible.everything:
        denominator = _with_one_for_hidden_images(denominator, numerator)
    return at_each_position(operation(numerator, denominator, **kwargs), masked[0], visible)


@masking_rule(*SINGULAR, any_sizes=True)
def singular(operation: Operation, *operands: Any, **kwargs: Any) -> Masked:
    """Roots, powers, logarithms: likewise, of 1 at hidden positions."""
    masked = masked_operands(*operands)
    visible = known(masked)
    ones = [_with_hidden_one(operand, visible) if isinstance(operand, Masked) else operand for operand in operands]
    result = at_each_position(operation(*ones, **kwargs), masked[0], visible)
    result.is_of_copies = True
    return result


@masking_rule(Tensor.__pow__, Tensor.__rpow__, any_sizes=True)
def power(operation: Operation, *operands: Any) -> Masked:
    """`x ** other` and `other ** x`, which torch computes in Python, where `torch.compile` would meet `x` again."""
    return singular(torch.pow, *(operands if operation is Tensor.__pow__ else operands[::-1]))


@masking_rule(Tensor.__rdiv__, any_sizes=True)
def quotient_of_number(_operation: Operation, x: Masked, other: Any) -> Masked:
    """`other / x`; likewise."""
    return pointwise(torch.mul, singular(torch.reciprocal, x), other)


@masking_rule(torch.prelu, F.local_response_norm, any_sizes=True)
def channelwise(operation: Operation, x: Masked, *args: Any, **kwargs: Any) -> Masked:
    """Position by position, over or for each channel of axis 1.

    Raises:
        NotImplementedError: the channels are not on axis 1.
    """
    check_images_first(x)
    of_ones = operation is F.local_response_norm  # a quotient
    return x.with_fresh(operation(x.with_hidden_one() if of_ones else x, *args, **kwargs))


@masking_rule(F.softmax, F.log_softmax, F.softmin, torch.softmax, torch.log_softmax, torch.argmax, any_sizes=True)
def over_channels(
    operation: Operation, x: Masked, dim: int | None = None, *args: Any, keepdim: bool = False, **kwargs: Any
) -> Masked:
    """Position by position, over its channels.

    Raises:
        NotImplementedError: the axis is one of positions, or not given.
    """
    if dim is None or dim % x.ndim in x.axes:
        positions = dim is not None and dim % x.ndim != x.axes[0] and operation not in (torch.argmax, Tensor.argmax)
        raise (LosesMap if positions else NotImplementedError)(
            f"layer masking takes a softmax or an argmax over the channels only, got axis {dim} of shape "
            f"{tuple(x.shape)}, whose axes {x.axes} are images and positions; {OWN_RULE}"
        )
    if operation not in (torch.argmax, Tensor.argmax):
        return x.with_fresh(operation(x, dim, *args, **kwargs))
    keepdim = args[0] if args else keepdim
    return carry(operation(x, dim, keepdim), x.visible, x.axes if keepdim else without_axes(x.axes, [dim % x.ndim]))


@masking_rule(F.normalize, any_sizes=True)
def normalize(
    operation: Operation,
    x: Masked,
    p: float = 2.0,
    dim: int = 1,
    eps: float = 1e-12,
    out: None = None,  # noqa: ARG001
) -> Masked:
    """Position by position, divided by the norm over its channels, as in SSD's VGG-16.

    Raises:
        NotImplementedError: the axis is one of images or positions.
    """
    if dim % x.ndim in x.axes:
        raise LosesMap(
            f"layer masking normalises over the channels only, got axis {dim} of shape {tuple(x.shape)}, whose axes "
            f"{x.axes} are images and positions; {OWN_RULE}"
        )
    return x.with_fresh(operation(x.with_hidden_one(), p, dim, eps))


@masking_rule(F.linear, F.layer_norm, F.rms_norm, any_sizes=True)
def over_last_axis(operation: Operation, x: Masked, *args: Any, **kwargs: Any) -> Masked:
    """A linear layer or a norm over the channels of one position, where these are the last axis.

    Raises:
        NotImplementedError: the last axis is one of positions, or a norm goes over further axes.
    """
    shape = kwargs.get("normalized_shape", args[0]) if operation is not F.linear else (1,)
    if len(shape) != 1:
        raise NotImplementedError(
            f"layer masking needs layer norm over the channels alone, got normalized_shape {tuple(shape)}; "
            "use group norm with one group, whose statistics can leave hidden positions out."
        )
    if not isinstance(x, Masked) or x.ndim - 1 in x.axes:
        raise NotImplementedError(
            "layer masking needs the channels on the last axis for a linear layer or layer norm over them, but it is "
            "one of positions, such as the width; permute the features, as to (B, H, W, C), or flatten them first."
        )
    return x.with_fresh(operation(x.features, *args, **kwargs))


def masked_operands(*operands: Any) -> list[Masked]:
    """Those that are masked; refused where their axes are not the same."""
    masked = [each for each in operands if isinstance(each, Masked)]
    first = masked[0]
    if len(masked) > 1 and any(each.axes != first.axes or each.ndim != first.ndim for each in masked):
        shapes = ", ".join(f"{tuple(each.shape)} with axes {each.axes}" for each in masked)
        raise refusal_of(first)(f"layer masking needs operands with the same order of axes, got {shapes}; {OWN_RULE}")
    return masked


def refusal_of(x: Masked) -> type[NotImplementedError]:
    """What a rule raises of a map that it cannot follow: signals (B, L, C) may be tokens, with which rules go on."""
    return LosesMap if len(x.axes) == 2 else NotImplementedError


def known(operands: Sequence[Masked]) -> VisibleMap:
    """The positions visible in every operand."""
    first, *others = operands
    return first.visible.merge(*(each.visible for each in others), intersection=True) if others else first.visible


def at_each_position(result: Tensor, like: Masked, visible: VisibleMap) -> Masked:
    """A result that has been computed at each position alone, with the axes of a masked operand."""
    if result.ndim != like.ndim:
        raise NotImplementedError(
            f"layer masking needs operands with no more axes than masked features of shape {tuple(like.shape)}, but "
            f"the result has shape {tuple(result.shape)}; {OWN_RULE}"
        )
    return carry(result, visible, like.axes)


def _with_one_for_hidden_images(denominator: Tensor, numerator: Masked) -> Tensor:
    """What each image is divided by, such as its norm, with 1 for an image of which nothing is visible."""
    hidden = ~numerator.visible.positions.flatten(1).any(dim=1)  # of an image nothing is visible
    if denominator.ndim != numerator.ndim or denominator.shape[numerator.axes[0]] != hidden.shape[0]:
        return denominator
    shape = [1] * denominator.ndim
    shape[numerator.axes[0]] = -1
    return denominator.masked_fill(hidden.reshape(shape), 1.0)


def _with_hidden_one(operand: Masked, visible: VisibleMap) -> Tensor:
    if visible is operand.visible:
        return operand.with_hidden_one()
    return torch.where(visible.positions_along(operand.axes, operand.ndim), operand, 1.0)
