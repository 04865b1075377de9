"""Operations on several masked tensors: sums, products, concatenation."""

import operator
from collections.abc import Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import torch
from torch import fx

from maskrobust.lm_modules.masking.masked import Masked, VisibleMap
from maskrobust.lm_modules.masking.rules.pointwise import ROW_BY_ROW
from maskrobust.lm_modules.masking.rules.table import Operation, masking_rule

RESIDUAL = (
    operator.add, operator.iadd, operator.sub, operator.isub, torch.add, torch.sub, "add", "add_", "sub", "sub_",
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
def concatenate(operation: Operation, branches: Sequence[Masked | torch.Tensor], dim: int = 0, **kwargs: Any) -> Masked:
    """Channels of several branches: visible where any branch is, each branch 0 where it is hidden itself.

    A plain branch, such as a pooled one enlarged again, is known everywhere and shows no position by itself.

    Raises:
        NotImplementedError: the axis is not that of the channels.
    """
    features, visible, first = _united(branches)
    axis = kwargs.get("axis", dim) % first.features.ndim
    if axis in (0, *first.spatial_axes):
        raise NotImplementedError(f"layer masking concatenates channels only, got axis {axis}; {_OWN_RULE}")
    return Masked(operation(features, axis), visible, first.channels_last)


class Stack(NamedTuple):
    """Branches stacked along axis 0, ahead of their sum."""

    branches: tuple[Any, ...]


_SUMS = (torch.sum, "sum")


def _check_stack(_operation: Operation, branches: fx.Node | Sequence[fx.Node], dim: int = 0) -> None:
    """Only 1 is an axis of channels; along axis 0, what is stacked must be summed along it at once."""
    first = branches if isinstance(branches, fx.Node) else branches[0]
    stacks = [user for user in first.users if user.target is torch.stack and user.args[0] == branches]
    are_summed = all(
        user.target in _SUMS and (user.args[1:] or tuple(user.kwargs.values())) in ((0,), ((0,),), ([0],))
        for stack in stacks
        for user in stack.users
    )
    if dim != 1 and not (dim == 0 and are_summed):
        raise NotImplementedError(
            f"layer masking stacks (B, C, H, W) features along axis 1, or along axis 0 to sum them there; {_OWN_RULE}"
        )


@masking_rule(torch.stack, check=_check_stack)
def stack(operation: Operation, branches: Sequence[Any], dim: int = 0) -> Masked | Stack:
    """Several branches along a new axis 1, by the same rule as `concatenate`, or along axis 0 to be summed.

    Raises:
        NotImplementedError: the channels are the last axis, or a branch is not masked.
    """
    if dim == 0:
        return Stack(tuple(branches))
    features, visible, first = _united(branches)
    if first.channels_last or len(features) != sum(isinstance(branch, Masked) for branch in branches):
        raise NotImplementedError(f"layer masking stacks masked features (B, C, H, W) along axis 1 only; {_OWN_RULE}")
    return Masked(operation(features, dim), visible)


def sum_stack(stacked: Stack) -> Masked:
    """The sum of branches that were stacked for it, by the rule for sums."""
    total: Masked = reduce(partial(residual, operator.add), stacked.branches)
    return total


_OWN_RULE = "give the module around this operation a rule of its own with masking_rule."


def _united(branches: Sequence[Any]) -> tuple[list[torch.Tensor], VisibleMap, Masked]:
    """Features of all branches, the positions visible in any, and the first masked branch."""
    masked = [branch for branch in branches if isinstance(branch, Masked)]
    visible = masked[0].visible.merge(*(branch.visible for branch in masked[1:]), intersection=False)
    are_alike = all(branch.visible is visible for branch in masked)
    features = [
        branch if not isinstance(branch, Masked) else branch.features if are_alike else branch.with_hidden_zero()
        for branch in branches
    ]
    return features, visible, masked[0]


def _known(operands: Sequence[Any]) -> VisibleMap:
    """The positions visible in every masked operand."""
    first, *others = (operand.visible for operand in operands if isinstance(operand, Masked))
    return first.merge(*others, intersection=True)


def _with_one_for_hidden_images(denominator: torch.Tensor, numerator: Masked) -> torch.Tensor:
    """What each image is divided by, such as its norm, with 1 for an image of which nothing is visible."""
    hidden = numerator.visible.hidden_images
    if denominator.ndim != numerator.features.ndim or denominator.shape[0] != hidden.shape[0]:
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
