"""Maps made larger or smaller: interpolation, and exchange of positions and channels."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskrobust.lm_modules.masking.masked import Masked, Window
from maskrobust.lm_modules.masking.rules.convolution import slide
from maskrobust.lm_modules.masking.rules.table import Operation, masking_rule

_NEAREST = ("nearest", "nearest-exact")
_LEAST_WEIGHT = 3e-5  # float32 gives up to 1e-5 to positions that a new one is not made from


def _check_mode(mode: str, *, antialias: bool = False) -> None:
    if mode not in (*_NEAREST, "bilinear") or antialias:
        raise NotImplementedError(
            "layer masking interpolates maps with mode nearest, nearest-exact or bilinear and without antialias, got "
            f"mode '{mode}' and antialias={antialias}; give the module around this operation a rule of its own with "
            "masking_rule."
        )


@masking_rule(nn.Upsample, check=lambda operation, *_args: _check_mode(operation.mode))
def upsample(operation: nn.Upsample, x: Masked) -> Masked:
    """By `interpolate`."""
    return interpolate(
        F.interpolate,
        x,
        operation.size,
        operation.scale_factor,
        operation.mode,
        operation.align_corners,
        recompute_scale_factor=operation.recompute_scale_factor,
    )


def _check_settings(
    _operation: Operation, _x: Any, _size: Any = None, _factor: Any = None, mode: str = "nearest", *_args: Any,
    antialias: bool = False, **_kwargs: Any,
) -> None:  # fmt: skip
    _check_mode(mode, antialias=antialias)


@masking_rule(F.interpolate, check=_check_settings)
def interpolate(
    operation: Operation,
    x: Masked,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    **kwargs: Any,
) -> Masked:
    """A new position is visible when it is made from a visible one; what else it is made from is neighbour padding.

    Where visible ones have a weight below 3e-5, it is hidden.
    """
    settings = (size, scale_factor, mode, align_corners)
    rings = 0 if mode in _NEAREST else 1

    def resized(numbers: Tensor) -> Tensor:
        return torch.as_tensor(operation(numbers, *settings, **kwargs))

    visible = x.visible.derive(("interpolate", str(settings), str(kwargs)), resized, least=_LEAST_WEIGHT)
    return Masked(operation(x.with_neighbour_padding(rings), *settings, **kwargs), visible, rings=rings)


@masking_rule(nn.PixelUnshuffle, F.pixel_unshuffle)
def pixel_unshuffle(operation: Any, x: Masked, factor: int | None = None) -> Masked:
    """Blocks of positions become channels: visible where any of the block is, the others 0."""
    side = operation.downscale_factor if factor is None else factor
    block = Window((side, side), (side, side))
    return slide(x, block, operation if factor is None else lambda features: operation(features, side), hidden="zero")


@masking_rule(nn.PixelShuffle, F.pixel_shuffle)
def pixel_shuffle(operation: Any, x: Masked, factor: int | None = None) -> Masked:
    """Channels become blocks of positions, as visible as the one they come from."""
    side = operation.upscale_factor if factor is None else factor
    features = operation(x.features) if factor is None else operation(x.features, factor)

    def enlarged(numbers: Tensor) -> Tensor:
        return numbers.repeat_interleave(side, dim=2).repeat_interleave(side, dim=3)

    return Masked(features, x.visible.derive(("pixel_shuffle", side), enlarged))
