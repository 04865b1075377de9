"""Rules for operations on several masked tensors: sums, concatenation, stacks."""

import operator
from collections.abc import Sequence
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor

from maskrobust.lm_modules.masking.masked import Masked, carry, without_axes
from maskrobust.lm_modules.masking.rules.pointwise import OWN_RULE, at_each_position, masked_operands
from maskrobust.lm_modules.masking.table import Operation, masking_rule
from maskrobust.lm_modules.masking.visible_map import VisibleMap


@masking_rule(torch.add, torch.sub, torch.subtract, torch.rsub, any_sizes=True)
def residual(operation: Operation, left: Any, right: Any, **kwargs: Any) -> Masked:
    """Sum or difference: visible where the merge rule says so; a number or plain tensor is added at each position."""
    first, *others = masked_operands(left, right)
    visible = first.visible.merge(others[0].visible) if others else first.visible
    takes_copies = visible.options.merge == "union" and bool(others) and others[0].visible is not first.visible
    if takes_copies:
        left, right = first.with_hidden_zero(), others[0].with_hidden_zero()
    result = at_each_position(operation(left, right, **kwargs), first, visible)
    result.is_of_copies = takes_copies
    return result


@masking_rule(Tensor.__rsub__, any_sizes=True)
def difference_from(_operation: Operation, x: Masked, other: Any) -> Masked:
    """`other - x`, which torch computes in Python, where `torch.compile` would meet `x` again."""
    return residual(torch.rsub, x, other)


@masking_rule(torch.cat, torch.concat, torch.concatenate, any_sizes=True)
def concatenate(operation: Operation, branches: Sequence[Any], dim: int = 0) -> Masked:
    """Channels of several branches: visible where any branch is, each branch 0 where it is hidden itself.

    A plain branch, such as a pooled one enlarged again, is known everywhere and shows no position by itself. Along
    height or width, maps are put side by side as their features are; a plain branch, such as zeros, is no place of an
    image there.

    Raises:
        NotImplementedError: the axis is that of the images.
    """
    first = masked_operands(*branches)[0]
    axis = dim % first.ndim
    if axis == first.axes[0]:
        raise NotImplementedError(f"layer masking concatenates channels or positions, got axis {axis}; {OWN_RULE}")
    if axis in first.spatial_axes:
        place = 2 + first.spatial_axes.index(axis)
        maps = [
            each.visible if isinstance(each, Masked) else first.visible.surroundings(place, each.shape[axis])
            for each in branches
        ]
        return carry(operation(branches, axis), maps[0].concatenated(maps[1:], place), first.axes)
    features, visible = _united(branches)
    return carry(operation(features, axis), visible, first.axes)


@masking_rule(torch.stack, any_sizes=True)
def stack(operation: Operation, branches: Sequence[Any], dim: int = 0) -> Masked:
    """Several branches along a new axis of channels, by the same rule as `concatenate`.

    Along axis 0 their sum is that of `residual`, and their mean that sum divided by their number.

    Raises:
        NotImplementedError: a branch is not masked.
    """
    first, *others = masked_operands(*branches)
    if len(others) + 1 < len(branches):
        raise NotImplementedError(f"layer masking stacks masked features alone; {OWN_RULE}")
    axis = dim % (first.ndim + 1)
    features, visible = _united(branches)
    stacked = carry(operation(features, axis), visible, tuple(each + (each >= axis) for each in first.axes))
    stacked.branches = tuple(each.visible for each in (first, *others)) if axis == 0 else None
    return stacked


def sum_branches(x: Masked, maps: Sequence[VisibleMap]) -> Masked:
    """The sum of branches with these maps as they were when they were stacked, by the rule for sums."""
    parts, axes = zip(x.features.unbind(), maps, strict=True), without_axes(x.axes, [0])
    return reduce(partial(residual, operator.add), [carry(part, visible, axes) for part, visible in parts])


def _united(branches: Sequence[Any]) -> tuple[list[Tensor], VisibleMap]:
    """Features of all branches, and the positions visible in any."""
    maps = [branch.visible for branch in branches if isinstance(branch, Masked)]
    visible = maps[0].merge(*maps[1:], intersection=False)
    if all(each is visible for each in maps):
        return list(branches), visible
    return [each.with_hidden_zero() if isinstance(each, Masked) else each for each in branches], visible
