"""Rules for what resamples or moves the positions of a map."""

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from maskrobust.lm_modules.masking.masked import Masked, carry, check_images_first, slide
from maskrobust.lm_modules.masking.table import OWN_RULE, Operation, masking_rule

_RINGS = {"nearest": 0, "nearest-exact": 0, "linear": 1, "bilinear": 1, "trilinear": 1, "bicubic": 2}
_LEAST_WEIGHT = 3e-5  # float32 gives up to 1e-5 to positions that a new one is not made from


@masking_rule(torch.roll)
def roll(operation: Operation, x: Masked, shifts: Any, dims: Any = None) -> Masked:
    """Positions rolled with the mask's.

    Raises:
        NotImplementedError: images are rolled, or no axis is given.
    """
    if dims is None:
        raise NotImplementedError(f"layer masking rolls channels or positions, got no axes; {OWN_RULE}")
    axes, steps = ((dims,), (shifts,)) if isinstance(dims, int) else (dims, shifts)
    by = {axis % x.ndim: step for axis, step in zip(axes, steps, strict=True) if step}
    if x.axes[0] in by:
        raise NotImplementedError(f"layer masking rolls channels or positions, got axes {dims}; {OWN_RULE}")
    moves = [by.get(axis, 0) for axis in x.spatial_axes]
    visible = x.visible.derive(("roll", *moves), lambda numbers: numbers.roll(moves, x.visible.axes[1:]))
    visible._derived.setdefault(("roll", *map(operator.neg, moves)), x.visible)
    return carry(operation(x, shifts, dims), visible, x.axes)


@masking_rule(F.interpolate, F.upsample)
def interpolate(
    _operation: Operation, x: Masked, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
    align_corners: bool | None = None, recompute_scale_factor: bool | None = None, antialias: bool = False,
) -> Masked:  # fmt: skip
    """A new position is visible when it is made from a visible one; what else it is made from is neighbour padding.

    Where visible ones have a weight below 3e-5, it is hidden.

    Raises:
        NotImplementedError: another mode than nearest, nearest-exact, (bi-, tri-)linear or bicubic, or antialias.
    """
    check_images_first(x)
    if mode not in _RINGS or antialias:
        raise NotImplementedError(
            f"layer masking interpolates maps with mode {', '.join(_RINGS)} and without antialias, got mode '{mode}' "
            f"and antialias={antialias}; {OWN_RULE}"
        )
    settings = (size, scale_factor, mode, align_corners, recompute_scale_factor)
    rings = _RINGS[mode]

    def resized(numbers: Tensor) -> Tensor:
        of_mask = "bilinear" if mode == "bicubic" else mode  # without weights below 0
        return torch.as_tensor(F.interpolate(numbers, *settings[:2], of_mask, *settings[3:]))

    visible = x.visible.derive(("interpolate", str(settings)), resized, least=_LEAST_WEIGHT)
    result = carry(F.interpolate(x.with_neighbour_padding(rings), *settings), visible)
    result.rings = rings
    return result


@masking_rule(F.pixel_unshuffle)
def pixel_unshuffle(operation: Operation, x: Masked, downscale_factor: int) -> Masked:
    """Blocks of positions become channels: visible where any of the block is, the others 0."""
    side = downscale_factor
    return slide(x, lambda features: operation(features, side), side, side, hidden="zero")


@masking_rule(F.pixel_shuffle, any_sizes=True)
def pixel_shuffle(operation: Operation, x: Masked, upscale_factor: int) -> Masked:
    """Channels become blocks of positions, as visible as the one they come from."""
    check_images_first(x)
    side = upscale_factor

    def enlarged(numbers: Tensor) -> Tensor:
        return numbers.repeat_interleave(side, dim=2).repeat_interleave(side, dim=3)

    visible = x.visible.derive(("pixel_shuffle", side), enlarged, extent_after=lambda extent: extent * side)
    return carry(operation(x, side), visible)
