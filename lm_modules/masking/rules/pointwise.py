"""Rules for operations that compute each position from that position alone, such as activations."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from maskrobust.lm_modules.masking.masked import Masked, arrange, carry, check_images_first, masked_in
from maskrobust.lm_modules.masking.table import OWN_RULE, Operation, masking_rule, pointwise_functions
from maskrobust.lm_modules.masking.visible_map import VisibleMap

POINTWISE = pointwise_functions()
_IS_FINITE = {
    "abs", "absolute", "neg", "negative", "square", "clamp", "clip", "mul", "multiply", "addcmul", "lerp", "maximum",
    "minimum", "masked_fill", "log_sigmoid", "clone", "detach", "float", "double", "half", "bfloat16",
}  # fmt: skip
FINITE = [each for each in POINTWISE if each.__name__.removesuffix("_") in _IS_FINITE | vars(F).keys()]
"""Activations and others that are finite, with a finite derivative, at any number."""
INFINITE_AT_ONE = (
    torch.atanh, torch.arctanh, torch.erfinv, torch.logit, torch.special.erfinv, torch.special.logit,
    torch.special.ndtri,
)  # fmt: skip
UNLISTED = (F.hardswish, F.hardsigmoid)
"""Others that torch can override, and does not list."""
DROPOUT = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout)
QUOTIENTS = (torch.div, torch.divide, torch.true_divide)


@masking_rule(*FINITE, *UNLISTED, *DROPOUT, any_sizes=True)
def pointwise(operation: Operation, *operands: Any, **kwargs: Any) -> Masked:
    """Known where every masked operand is; a number or plain tensor is known everywhere."""
    masked = masked_in((*operands, *kwargs.values()))
    return at_each_position(partial(operation, *operands, **kwargs), masked, merged(masked, intersection=True))


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
    return carry(result, x.visible.on(result.device), x.axes) if x.is_map else x.with_fresh(result)


@masking_rule(*(each for each in POINTWISE if each not in FINITE), any_sizes=True)
def singular(operation: Operation, *operands: Any, **kwargs: Any) -> Masked:
    """Any other function of single positions, such as a root or a comparison: likewise, of 1 at hidden positions.

    At other numbers they may be infinite or NaN, or fail.
    """
    return _of_hidden(1, operation, operands, kwargs)


@masking_rule(*INFINITE_AT_ONE, any_sizes=True)
def within_one(operation: Operation, *operands: Any, **kwargs: Any) -> Masked:
    """Likewise, of 0.5."""
    return _of_hidden(0.5, operation, operands, kwargs)


@masking_rule(torch.where, any_sizes=True)
def choice(operation: Operation, *operands: Any, **kwargs: Any) -> Masked:
    """Known where every masked operand is, the condition among them.

    Raises:
        NotImplementedError: there is nothing to choose from, so that places are asked for.
    """
    if len(operands) + len(kwargs) < 3:
        raise NotImplementedError(
            f"layer masking lists no positions of a condition; give torch.where two values to choose from, or "
            f"{OWN_RULE}"
        )
    return pointwise(operation, *operands, **kwargs)


@masking_rule(*QUOTIENTS, any_sizes=True)
def quotient(operation: Operation, numerator: Any, denominator: Any, **kwargs: Any) -> Masked:
    """The same, divided by 1 at hidden positions: by whatever else is there, value or gradient may be NaN."""
    masked = masked_in((numerator, denominator))
    visible = merged(masked, intersection=True)
    if isinstance(denominator, Masked):
        denominator = _with_hidden(1, denominator, visible)
    elif isinstance(denominator, Tensor) and visible is not None and not visible.everything:
        denominator = _with_one_for_hidden_images(denominator, numerator)
    return at_each_position(partial(operation, numerator, denominator, **kwargs), masked, visible)


@masking_rule(Tensor.__pow__, Tensor.__rpow__, any_sizes=True)
def power(operation: Operation, *operands: Any) -> Masked:
    """`x ** other` and `other ** x`, which torch computes in Python, where `torch.compile` would meet `x` again."""
    return singular(torch.pow, *(operands if operation is Tensor.__pow__ else operands[::-1]))


@masking_rule(Tensor.__rdiv__, any_sizes=True)
def quotient_of_number(_operation: Operation, x: Masked, other: Any) -> Masked:
    """`other / x`; likewise."""
    return pointwise(torch.mul, singular(torch.reciprocal, x), other)


@masking_rule(torch.prelu, F.local_response_norm, any_sizes=True, is_of_one=True)
def channelwise(operation: Operation, x: Masked, *args: Any, **kwargs: Any) -> Masked:
    """Position by position, over or for each channel of axis 1.

    Raises:
        NotImplementedError: the channels are not on axis 1.
    """
    check_images_first(x)
    of_ones = operation is F.local_response_norm  # a quotient
    return x.with_fresh(operation(x.with_hidden_one() if of_ones else x, *args, **kwargs))


@masking_rule(F.glu, any_sizes=True)
def gated(operation: Operation, x: Masked, dim: int = -1) -> Masked:
    """One half of the channels times the sigmoid of the other, position by position.

    Raises:
        NotImplementedError: the axis is one of images or positions.
    """
    axis = dim % x.ndim
    if x.has_positions_along(axis):
        raise NotImplementedError(
            f"layer masking gates halves of the channels, got axis {dim} of shape {tuple(x.shape)}, which is one of "
            "images or positions; name the axis of the channels, as in nn.GLU(1)."
        )
    result = operation(x.features, dim)
    return arrange(result, x.arrangement.sliced(axis, 0, result.shape[axis]))


@masking_rule(F.softmax, F.log_softmax, F.softmin, torch.softmax, torch.log_softmax, torch.argmax, any_sizes=True)
def over_channels(
    operation: Operation, x: Masked, dim: int | None = None, *args: Any, keepdim: bool = False, **kwargs: Any
) -> Masked:
    """Position by position, over its channels; a softmax over positions is one of the visible ones.

    Raises:
        NotImplementedError: the axis is one of images, or not given, or another function goes over positions.
    """
    is_softmax = operation in (F.softmax, torch.softmax, Tensor.softmax)
    along = dim is not None and x.has_positions_along(dim % x.ndim)
    if dim is None or (along and not (is_softmax and not x.has_images_along(dim))):
        raise NotImplementedError(
            f"layer masking takes a softmax or an argmax over the channels only, got axis {dim} of shape "
            f"{tuple(x.shape)}, which is none or that of images or positions; {OWN_RULE}"
        )
    if operation in (torch.argmax, Tensor.argmax):
        result = operation(x, dim, args[0] if args else keepdim)
        return arrange(result, x.reduced([dim % x.ndim], result.ndim == x.ndim))
    if along:
        shown = x.features.masked_fill(~x.positions, torch.finfo(x.dtype).min)
        return x.with_fresh(operation(shown, dim, *args, **kwargs))
    return x.with_fresh(operation(x, dim, *args, **kwargs))


@masking_rule(F.normalize, any_sizes=True)
def normalize(
    operation: Operation,
    x: Masked,
    p: float = 2.0,
    dim: int = 1,
    eps: float = 1e-12,
    out: None = None,  # noqa: ARG001
) -> Masked:
    """Of channels, divided by their norm, as in SSD's VGG-16, or of the visible positions of a channel.

    Raises:
        NotImplementedError: the axis is that of the images.
    """
    if x.has_images_along(dim):
        raise NotImplementedError(f"layer masking normalises over no images, got axis {dim}; {OWN_RULE}")
    along = x.has_positions_along(dim % x.ndim)
    return x.with_fresh(operation(x.with_hidden_zero() if along else x.with_hidden_one(), p, dim, eps))


@masking_rule(F.linear, F.layer_norm, F.rms_norm, any_sizes=True, is_of_one=True)
def over_last_axis(operation: Operation, x: Masked, *args: Any, **kwargs: Any) -> Masked:
    """A linear layer or a norm over the channels of one position, where these are the last axis.

    Where positions have become channels, as in the merging of patches, a result is visible where any of them is, and
    hidden ones count as 0.

    Raises:
        NotImplementedError: the last axis is one of positions alone, a norm goes over further axes, or over all
            positions, whose statistics would count the hidden ones.
    """
    shape = kwargs.get("normalized_shape", args[0]) if operation is not F.linear else (1,)
    if len(shape) != 1:
        raise NotImplementedError(
            f"layer masking needs layer norm over the channels alone, got normalized_shape {tuple(shape)}; "
            "use group norm with one group, whose statistics can leave hidden positions out."
        )
    if not x.has_positions_along(x.ndim - 1):
        return x.with_fresh(operation(x.features, *args, **kwargs))
    if None not in {part.source for part in x.arrangement.axes[-1]}:
        raise NotImplementedError(
            "layer masking has no rule for linear layers or norms over positions, as in a mixer or a layer norm over "
            "the width; permute the features, so that their channels are the last axis, or flatten them first."
        )
    after = x.arrangement.reduced([x.ndim - 1])
    if operation is not F.linear and after.ends:
        raise NotImplementedError(
            "layer masking needs norms over channels, but here one goes over all positions; use group norm, whose "
            "statistics can leave hidden positions out."
        )
    result = operation(x.with_hidden_zero(), *args, **kwargs)
    return arrange(result, after.resized(result.shape))


def merged(masked: Sequence[Masked], *, intersection: bool | None) -> VisibleMap | None:
    """The map of several operands; None where they are no maps in one order of axes, and positions meet axis by axis.

    Raises:
        NotImplementedError: they are maps in several orders of axes.
    """
    first, *others = masked
    if not all([each.is_map for each in masked]):
        return None
    if any([each.axes != first.axes or each.ndim != first.ndim for each in others]):
        if len(first.axes) == 2:  # signals (B, L, C) may be tokens
            return None
        shapes = ", ".join(f"{tuple(each.shape)} with axes {each.axes}" for each in masked)
        raise NotImplementedError(f"layer masking needs operands with the same order of axes, got {shapes}; {OWN_RULE}")
    return (
        first.visible.merge(*(each.visible for each in others), intersection=intersection) if others else first.visible
    )


def at_each_position(
    compute: Callable[[], Tensor], masked: Sequence[Masked], visible: VisibleMap | None, *, in_any: bool = False
) -> Masked:
    """What is computed at each position alone.

    Args:
        compute: called once it is known where the operands lie: `torch.compile` takes an operand that has been changed
            in place for a plain tensor.
        masked: the operands.
        visible: their map by `merged`.
        in_any: without a map: whether a position is visible where any operand is, and not all.
    """
    first = masked[0]
    if visible is None:
        arrangement, *others = [each.arrangement for each in masked]
        result = compute()
        return arrange(result, arrangement.met(others, result.shape, in_any=in_any))
    axes, shape = first.axes, first.shape
    result = compute()
    if result.ndim != len(shape):
        raise NotImplementedError(
            f"layer masking needs operands with no more axes than masked features of shape {tuple(shape)}, but "
            f"the result has shape {tuple(result.shape)}; {OWN_RULE}"
        )
    return carry(result, visible, axes)


def _with_one_for_hidden_images(denominator: Tensor, numerator: Masked) -> Tensor:
    """What each image is divided by, such as its norm, with 1 for an image of which nothing is visible."""
    hidden = ~numerator.visible.positions.flatten(1).any(dim=1)  # of an image nothing is visible
    if denominator.ndim != numerator.ndim or denominator.shape[numerator.axes[0]] != hidden.shape[0]:
        return denominator
    shape = [1] * denominator.ndim
    shape[numerator.axes[0]] = -1
    return denominator.masked_fill(hidden.reshape(shape), 1.0)


def _of_hidden(value: float, operation: Operation, operands: Sequence[Any], kwargs: dict[str, Any]) -> Masked:
    masked = masked_in(operands)
    visible = merged(masked, intersection=True)
    finite = [_with_hidden(value, each, visible) if isinstance(each, Masked) else each for each in operands]
    result = at_each_position(partial(operation, *finite, **kwargs), masked, visible)
    result.is_of_copies = True
    return result


def _with_hidden(value: float, operand: Masked, visible: VisibleMap | None) -> Tensor:
    """An operand with a number where it, or a result, is hidden; truth values as they are."""
    if operand.dtype == torch.bool or (visible is not None and visible.everything):
        return operand
    is_own = visible is None or visible is operand.visible
    if value == 1 and is_own and operand.is_floating_point():
        return operand.with_hidden_one()
    shown = operand.positions if visible is None else visible.positions_along(operand.axes, operand.ndim)
    return torch.where(shown, operand, value)
