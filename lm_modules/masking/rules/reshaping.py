"""Operations that rearrange axes, channels and positions: views, permutes, splits, slices, flattening, resampling."""

import operator
from collections.abc import Sequence
from types import EllipsisType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskrobust.lm_modules.masking.masked import Masked, Window
from maskrobust.lm_modules.masking.rules.convolution import slide
from maskrobust.lm_modules.masking.rules.pointwise import elementwise
from maskrobust.lm_modules.masking.rules.table import Operation, masking_rule

_TO_CHANNELS_LAST = (0, 2, 3, 1)
_TO_CHANNELS_FIRST = (0, 3, 1, 2)
_OWN_RULE = "give the module around this operation a rule of its own with masking_rule."
_TOKENS = (
    "layer masking follows positions of an image, but here they become a sequence of tokens, as in a transformer, "
    f"from which hidden ones can simply be dropped; {_OWN_RULE}"
)


NO_TENSORS = (
    "shape", "dtype", "device", "ndim", "layout", "itemsize", "nbytes", "requires_grad", "is_leaf", "is_cpu", "is_cuda",
    "is_meta", "is_mkldnn", "is_mps", "is_nested", "is_quantized", "is_sparse", "is_xla", "is_xpu",
)  # fmt: skip
"""Attributes of a tensor that are no tensors, and say nothing of its values."""

QUESTIONS = (
    "size", "dim", "ndimension", "numel", "nelement", "stride", "storage_offset", "element_size", "get_device",
    "is_contiguous", "is_floating_point", "is_complex",
)  # fmt: skip
"""Methods of a tensor that say nothing of its values."""


@masking_rule(*QUESTIONS, ends_masking=True)
def question(operation: Operation, x: Masked, *args: Any) -> Any:
    """Shape, device and the like."""
    return operation(x.features, *args)


def _check_attribute(_operation: Operation, _x: Any, name: str) -> None:
    if name not in NO_TENSORS:
        raise NotImplementedError(
            f"layer masking has no rule for the attribute '{name}' of a tensor; use a function of torch for it, or "
            f"{_OWN_RULE}"
        )


@masking_rule(getattr, ends_masking=True, check=_check_attribute)
def attribute(operation: Operation, x: Masked, name: str) -> Any:
    """Shape, device and the like; what is a tensor itself is refused."""
    return operation(x.features, name)


def same(x: Any) -> Any:
    """The argument, as a result of its own."""
    return x


@masking_rule(same, is_local=True)
def unchanged(_operation: Operation, x: Any) -> Any:
    """Features, or several of them, as they are."""
    return x


def _ends_in_a_vector(_operation: Operation, _x: Any, *args: Any, **kwargs: Any) -> bool:
    sizes = kwargs.get("shape", kwargs.get("size", args))
    while isinstance(sizes, list | tuple) and len(sizes) == 1 and isinstance(sizes[0], list | tuple):
        sizes = sizes[0]
    if len(sizes) == 3:
        raise NotImplementedError(_TOKENS)
    return len(sizes) == 2


@masking_rule("view", "reshape", torch.reshape, ends_masking=_ends_in_a_vector)
def view(operation: Operation, x: Masked, *args: Any, **kwargs: Any) -> Masked | Tensor:
    """Channels in groups, or together again; into a vector for each image, hidden positions are 0 and masking ends.

    Features that layer masking has made channels-last are made contiguous, as a view needs them.
    """
    if _ends_in_a_vector(operation, x, *args, **kwargs):
        return torch.as_tensor(operation(x.with_hidden_zero().contiguous(), *args, **kwargs))
    features = operation(x.features.contiguous(), *args, **kwargs)
    if x.channels_last or features.shape[0] != x.features.shape[0]:
        raise NotImplementedError(_TOKENS)
    return Masked(features, x.visible)


def _check_flattens_all(operation: Any, _x: Any, start_dim: int = 0, end_dim: int = -1) -> None:
    if isinstance(operation, nn.Flatten):
        start_dim, end_dim = operation.start_dim, operation.end_dim
    if start_dim != 1 or end_dim not in (-1, 3):
        raise NotImplementedError(_TOKENS)


@masking_rule(nn.Flatten, torch.flatten, "flatten", ends_masking=True, check=_check_flattens_all)
def flatten(operation: Operation, x: Masked, *args: Any, **kwargs: Any) -> Tensor:
    """Into a vector for each image, 0 at hidden positions; masking ends."""
    return torch.as_tensor(operation(x.with_hidden_zero(), *args, **kwargs))


@masking_rule(torch.permute, "permute", is_local=True)
def permute(operation: Operation, x: Masked, *axes: Any, dims: Sequence[int] | None = None) -> Masked:
    """Between (B, C, H, W) and (B, H, W, C).

    Raises:
        NotImplementedError: another order.
    """
    given = dims or (axes[0] if isinstance(axes[0], list | tuple) else axes)
    order = tuple(axis % x.features.ndim for axis in given)
    if order != (_TO_CHANNELS_FIRST if x.channels_last else _TO_CHANNELS_LAST):
        raise NotImplementedError(
            f"layer masking permutes (B, C, H, W) to (B, H, W, C) and back, got {order}; {_OWN_RULE}"
        )
    return Masked(operation(x.features, order), x.visible, not x.channels_last)


@masking_rule(torch.transpose, "transpose", "swapaxes", torch.swapaxes)
def transpose(operation: Operation, x: Masked, first: int, second: int) -> Masked:
    """Axes of channels, as in a channel shuffle.

    Raises:
        NotImplementedError: an axis of the batch or of positions.
    """
    axes = {first % x.features.ndim, second % x.features.ndim}
    if axes & {0, *x.spatial_axes}:
        raise NotImplementedError(f"layer masking transposes axes of channels only, got {sorted(axes)}; {_OWN_RULE}")
    return x.with_features(operation(x.features, first, second))


# Position by position, and a new axis of channels.
masking_rule(nn.ChannelShuffle, torch.unsqueeze, "unsqueeze")(elementwise)


@masking_rule(torch.chunk, torch.split, torch.tensor_split, torch.unbind, "chunk", "split", "tensor_split", "unbind")
def split(operation: Operation, x: Masked, *args: Any, **kwargs: Any) -> tuple[Masked, ...]:
    """Channels in parts.

    Raises:
        NotImplementedError: positions or images would be taken apart.
    """
    place = 0 if operation.__name__ == "unbind" else 1  # the others take sizes ahead of the axis
    axis = (kwargs.get("dim", 0) if len(args) <= place else args[place]) % x.features.ndim
    if axis in (0, *x.spatial_axes):
        raise NotImplementedError(f"layer masking splits channels only, got axis {axis}; {_OWN_RULE}")
    return tuple(x.with_features(part) for part in operation(x.features, *args, **kwargs))


@masking_rule(operator.getitem)
def index(_operation: Operation, x: Any, place: Any) -> Masked:
    """One of several parts; or a slice of channels, or of positions with the mask's alike.

    Raises:
        NotImplementedError: an index other than slices, and one number for the channel.
    """
    if not isinstance(x, Masked):
        part: Masked = x[place]
        return part
    places = _one_for_each_axis(place, x.features.ndim)
    height, width = (places[axis] for axis in x.spatial_axes)
    whole = slice(None)
    if places[0] != whole or not isinstance(height, slice) or not isinstance(width, slice):
        raise NotImplementedError(
            f"layer masking needs an index that keeps all images, and height and width as axes, got {place}; "
            f"{_OWN_RULE}"
        )
    features = x.features[tuple(places)]
    if height == width == whole:
        return x.with_features(features)
    key = ("slice", (height.start, height.stop, height.step), (width.start, width.stop, width.step))
    visible = x.visible.derive(key, lambda numbers: numbers[:, :, height, width])
    return Masked(features, visible, x.channels_last)


def _one_for_each_axis(place: Any, axes: int) -> list[Any]:
    places = list(place) if isinstance(place, tuple) else [place]
    at = next((at for at, each in enumerate(places) if isinstance(each, EllipsisType)), len(places))
    after = places[at + 1 :]
    return places[:at] + [slice(None)] * (axes - at - len(after)) + after


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
    settings = operation.size, operation.scale_factor, operation.mode, operation.align_corners
    return interpolate(F.interpolate, x, *settings, recompute_scale_factor=operation.recompute_scale_factor)


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
