"""Rules for operations on several masked tensors: sums, concatenation, stacks."""

import operator
from collections.abc import Sequence
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor

from maskrobust.lm_modules.masking.arrangement import Arrangement, remade, several, united
from maskrobust.lm_modules.masking.masked import Masked, arrange, arrangement_of, carry, masked_in, without_axes
from maskrobust.lm_modules.masking.rules.pointwise import at_each_position, merged
from maskrobust.lm_modules.masking.table import OWN_RULE, Operation, masking_rule
from maskrobust.lm_modules.masking.visible_map import VisibleMap


@masking_rule(torch.add, torch.sub, torch.subtract, torch.rsub, any_sizes=True)
def residual(operation: Operation, left: Any, right: Any, **kwargs: Any) -> Masked:
    """Sum or difference: visible where the merge rule says so; a number or plain tensor is added at each position."""
    first, *others = masked = masked_in((left, right))
    visible, union = merged(masked, intersection=None), first.options.merge == "union"
    takes_copies = union and bool(others) and (visible is None or others[0].visible is not first.visible)
    if takes_copies:
        left, right = first.with_hidden_zero(), others[0].with_hidden_zero()
    result = at_each_position(partial(operation, left, right, **kwargs), masked, visible, in_any=union)
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
    image there, and one of tokens, such as a class token, is visible.

    Raises:
        NotImplementedError: the axis is that of the images.
    """
    masked = masked_in(branches)
    axis, first = dim % masked[0].ndim, masked[0]
    if any(each.has_images_along(axis) for each in masked):
        raise NotImplementedError(f"layer masking concatenates channels or positions, got axis {axis}; {OWN_RULE}")
    if not any(each.has_positions_along(axis) for each in masked):
        features, visible = _zeroed(branches)
        return at_each_position(partial(operation, features, axis), masked, visible, in_any=True)
    if not all(each.is_map for each in masked):
        plain = [each.features if isinstance(each, Masked) else each for each in branches]
        return _side_by_side(operation(plain, axis), branches, axis)
    place = 2 + first.spatial_axes.index(axis)
    maps = [
        each.visible if isinstance(each, Masked) else first.visible.surroundings(place, each.shape[axis])
        for each in branches
    ]
    return carry(operation(branches, axis), maps[0].concatenated(maps[1:], place), first.axes)


@masking_rule(torch.stack, any_sizes=True)
def stack(operation: Operation, branches: Sequence[Any], dim: int = 0) -> Masked:
    """Several branches along a new axis of channels, by the same rule as `concatenate`.

    Along axis 0 their sum is that of `residual`, and their mean that sum divided by their number.

    Raises:
        NotImplementedError: a branch of maps is not masked.
    """
    masked = masked_in(branches)
    axis, first = dim % (masked[0].ndim + 1), masked[0]
    if axis > 0 and not all(each.is_map for each in masked):
        longer = [
            arrange(each.features.unsqueeze(axis), each.arrangement.with_axis(axis))
            if isinstance(each, Masked)
            else each.unsqueeze(axis)
            for each in branches
        ]
        return concatenate(torch.cat, longer, axis)
    if len(masked) < len(branches):
        raise NotImplementedError(f"layer masking stacks masked features alone; {OWN_RULE}")
    masked = [carry(each, each.visible, each.axes) for each in masked]
    features, visible = _zeroed(masked)
    if visible is None:
        raise NotImplementedError(f"layer masking stacks maps in one order of axes; {OWN_RULE}")
    stacked = carry(operation(features, axis), visible, tuple(each + (each >= axis) for each in first.axes))
    stacked.branches = tuple(each.visible for each in masked) if axis == 0 else None
    return stacked


def sum_branches(x: Masked, maps: Sequence[VisibleMap]) -> Masked:
    """The sum of branches with these maps as they were when they were stacked, by the rule for sums."""
    parts, axes = zip(x.features.unbind(), maps, strict=True), without_axes(x.axes, [0])
    return reduce(partial(residual, operator.add), [carry(part, visible, axes) for part, visible in parts])


def _zeroed(branches: Sequence[Any]) -> tuple[list[Tensor], VisibleMap | None]:
    """Features of all branches, 0 where one of them alone is hidden, and the map of what is visible in any."""
    masked = masked_in(branches)
    visible = merged(masked, intersection=False)
    if visible is not None and all(each.visible is visible for each in masked):
        return list(branches), visible
    return [each.with_hidden_zero() if isinstance(each, Masked) else each for each in branches], visible


def _side_by_side(result: Tensor, branches: Sequence[Any], axis: int) -> Masked:
    """Positions, and channels or plain tokens, which are visible, one after the other along an axis."""
    first = masked_in(branches)[0].arrangement
    each_of = [arrangement_of(branch, masked_in(branches)[0]) for branch in branches]

    def join() -> Arrangement:
        shapes = [each.positions.shape for each in each_of]
        size = [max(sizes) for sizes in zip(*shapes, strict=True)]
        masks = [
            each.positions.expand([branch.shape[at] if at == axis else one for at, one in enumerate(size)])
            for each, branch in zip(each_of, branches, strict=True)
        ]
        axes = [*map(united, zip(*(each.kinds for each in each_of), strict=True))]
        axes[axis] = several(result.shape[axis])
        return remade(torch.cat(masks, axis), axes, first.places.like)

    return arrange(result, first.places.once(("joined", axis, result.shape[axis], tuple(each_of)), join))
