"""Operations on several masked tensors: sums, products, concatenation."""

import operator
from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch

from maskrobust.lm_modules.masking.masked import Masked, VisibleMap
from maskrobust.lm_modules.masking.rules.pointwise import ROW_BY_ROW
from maskrobust.lm_modules.masking.rules.table import Operation, masking_rule


def add_into_first(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Left + right, in the memory of `left` where it has the result's shape and dtype."""
    fits = left.shape == right.shape and torch.promote_types(left.dtype, right.dtype) == left.dtype
    return left.add_(right) if fits else left + right


RESIDUAL = (
    add_into_first, operator.add, operator.iadd, operator.sub, operator.isub, torch.add, torch.sub, "add", "add_",
    "sub", "sub_",
)  # fmt: skip
GATES = (
    operator.mul, operator.imul, torch.mul, torch.addcmul, torch.lerp, torch.maximum, torch.minimum,
    "mul", "mul_", "addcmul", "maximum", "minimum",
)  # fmt: skip
QUOTIENTS = (operator.truediv, operator.itruediv, torch.div, "div", "div_")
SINGULAR = (
    operator.pow, torch.pow, torch.exp, torch.log, torch.log2, torch.log10, torch.log1p, torch.reciprocal, torch.rsqrt,
    torch.sqrt, "pow", "exp", "log", "log2", "log10", "log1p", "reciprocal", "rsqrt", "sqrt",
)  # fmt: skip


@masking_rule(*RESIDUAL, rows=ROW_BY_ROW, is_local=True)
def residual(operation: Operation, left: Any, right: Any, **kwargs: Any) -> Masked:
    """Sum or difference: visible where the merge rule says so; a number or plain tensor is added at each position."""
    operands = [operand for operand in (left, right) if isinstance(operand, Masked)]
    if len(operands) == 1 or left.visible is right.visible:
        return _position_by_position(operation, (left, right), kwargs, operands[0].visible)
    visible = left.visible.merge(right.visible)
    if left.visible.options.merge == "intersection":
        return _position_by_position(operation, (left, right), kwargs, visible)
    shown = tuple(operand.with_features(operand.with_hidden_zero()) for operand in operands)
    return _position_by_position(operation, shown, kwargs, visible)


@masking_rule(*GATES, is_local=True)
def gate(operation: Operation, *operands: Any, **kwargs: Any) -> Masked:
    """Product and the like: known where every masked operand is."""
    return _position_by_position(operation, operands, kwargs, _known(operands))


@masking_rule(*QUOTIENTS, is_local=True)
def quotient(operation: Operation, numerator: Any, denominator: Any, **kwargs: Any) -> Masked:
    """The same, divided by 1 at hidden positions: by whatever else is there, value or gradient may be NaN."""
    visible = _known((numerator, denominator))
    if isinstance(denominator, Masked):
        denominator = _with_hidden_one(denominator, visible)
    elif isinstance(denominator, torch.Tensor) and not visible.everything:
        denominator = _with_one_for_hidden_images(denominator, numerator)
    return _position_by_position(operation, (numerator, denominator), kwargs, visible)


@masking_rule(*SINGULAR, is_local=True)
def singular(operation: Operation, *operands: Any, **kwargs: Any) -> Masked:
    """Roots, powers, logarithms: likewise, of 1 at hidden positions."""
    visible = _known(operands)
    ones = [_with_hidden_one(operand, visible) if isinstance(operand, Masked) else operand for operand in operands]
    return _position_by_position(operation, ones, kwargs, visible)


@masking_rule(torch.cat, torch.concat, torch.concatenate)
def concatenate(operation: Operation, branches: Sequence[Masked], dim: int = 0, **kwargs: Any) -> Masked:
    """Channels of several branches: visible where any branch is, each branch 0 where it is hidden itself.

    Raises:
        NotImplementedError: the axis is not that of the channels.
    """
    features, visible = _united(branches)
    axis = kwargs.get("axis", dim) % branches[0].features.ndim
    if axis in (0, *branches[0].spatial_axes):
        raise NotImplementedError(f"layer masking concatenates channels only, got axis {axis}; {_OWN_RULE}")
    return Masked(operation(features, axis), visible, branches[0].channels_last)


@masking_rule(torch.stack)
def stack(operation: Operation, branches: Sequence[Masked], dim: int = 0) -> Masked:
    """Several branches along a new axis 1, by the same rule as `concatenate`.

    Raises:
        NotImplementedError: the new axis is another, or the channels are the last axis.
    """
    if dim != 1 or branches[0].channels_last:
        raise NotImplementedError(f"layer masking stacks (B, C, H, W) features along axis 1 only; {_OWN_RULE}")
    features, visible = _united(branches)
    return Masked(operation(features, dim), visible)


_OWN_RULE = "give the module around this operation a rule of its own with masking_rule."


def _united(branches: Sequence[Masked]) -> tuple[list[torch.Tensor], VisibleMap]:
    if not all(isinstance(branch, Masked) for branch in branches):
        raise NotImplementedError(f"layer masking needs every branch here to be masked features; {_OWN_RULE}")
    visible = reduce(VisibleMap.unite, [branch.visible for branch in branches])
    if all(branch.visible is visible for branch in branches):
        return [branch.features for branch in branches], visible
    return [branch.with_hidden_zero() for branch in branches], visible


def _known(operands: Sequence[Any]) -> VisibleMap:
    """The positions visible in every masked operand."""
    return reduce(VisibleMap.intersect, [operand.visible for operand in operands if isinstance(operand, Masked)])


def _with_one_for_hidden_images(denominator: torch.Tensor, numerator: Masked) -> torch.Tensor:
    """What each image is divided by, such as its norm, with 1 for an image of which nothing is visible."""
    hidden = numerator.visible.hidden_images
    if denominator.ndim != numerator.features.ndim or len(denominator) != len(hidden):
        return denominator
    return denominator.masked_fill(hidden.reshape(-1, *[1] * (denominator.ndim - 1)), 1.0)


def _with_hidden_one(operand: Masked, visible: VisibleMap) -> Masked:
    at_visible = Masked(operand.features, visible, operand.channels_last)
    return at_visible.with_features(at_visible.with_hidden_one())


def _position_by_position(
    operation: Operation, operands: Sequence[Any], kwargs: dict[str, Any], visible: VisibleMap
) -> Masked:
    layouts = {operand.channels_last for operand in operands if isinstance(operand, Masked)}
    if len(layouts) > 1:
        raise NotImplementedError(f"layer masking needs operands with the same order of axes; {_OWN_RULE}")
    plain = (operand.features if isinstance(operand, Masked) else operand for operand in operands)
    return Masked(operation(*plain, **kwargs), visible, layouts.pop())
