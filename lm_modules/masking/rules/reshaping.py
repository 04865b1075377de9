"""Rules for views, permutes, splits, slices, flattening and resampling."""

import operator
from collections.abc import Sequence
from types import EllipsisType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from maskrobust.lm_modules.masking.axes import Axes
from maskrobust.lm_modules.masking.masked import Masked, carry, check_images_first, slide, without_axes
from maskrobust.lm_modules.masking.memory import share, share_memory
from maskrobust.lm_modules.masking.rules.pointwise import OWN_RULE, refusal_of
from maskrobust.lm_modules.masking.table import LosesMap, Operation, anywhere, masking_rule
from maskrobust.lm_modules.masking.visible_map import DependsOnSize, VisibleMap

_RINGS = {"nearest": 0, "nearest-exact": 0, "linear": 1, "bilinear": 1, "trilinear": 1, "bicubic": 2}
_LEAST_WEIGHT = 3e-5  # float32 gives up to 1e-5 to positions that a new one is not made from


@masking_rule(Tensor.view_as, Tensor.reshape_as, any_sizes=True)
def view_as(operation: Operation, x: Any, like: Any) -> Masked | Tensor:
    """In the shape of another tensor, by `view`."""
    if not isinstance(x, Masked):
        return torch.as_tensor(operation(x, like))
    if x.shape == like.shape:
        return x.with_fresh(operation(x, like))  # as autograd functions return what they were given
    return view(Tensor.view if operation is Tensor.view_as else Tensor.reshape, x, like.shape)


@masking_rule(Tensor.view, torch.reshape, torch.flatten, torch.unflatten, torch.ravel, any_sizes=True)
def view(operation: Operation, x: Masked, *args: Any, **kwargs: Any) -> Masked | Tensor:
    """Channels in groups, or together again; into a vector for each image, hidden positions are 0 and masking ends.

    Features that layer masking has made channels-last are made contiguous, as a view needs them.

    Raises:
        NotImplementedError: positions become a sequence of tokens.
    """
    if args and isinstance(args[0], torch.dtype):
        raise NotImplementedError(f"layer masking does not look at the bits of features as {args[0]}; {OWN_RULE}")
    features = operation(x.contiguous(), *args, **kwargs)
    if features.ndim == 2 and features.shape[0] == x.shape[0] and x.axes[0] == 0:
        if x.visible.extent is not None:
            raise DependsOnSize
        return torch.as_tensor(operation(x.with_hidden_zero().contiguous(), *args, **kwargs))
    return _view_of(x, carry(features, x.visible, _axes_of_view(x, features)))


@masking_rule(Tensor.contiguous, any_sizes=True)
@anywhere()
def contiguous(operation: Operation, x: Masked, **kwargs: Any) -> Masked:
    """The same features in another order of memory."""
    return _view_of(x, x.with_fresh(operation(x.features, **kwargs)))


@masking_rule(torch.permute, any_sizes=True)
def permute(operation: Operation, x: Masked, *axes: Any, dims: Sequence[int] = ()) -> Masked:
    """Another order of axes; height comes before width, or the map is transposed.

    Raises:
        NotImplementedError: the images come after height or width.
    """
    given = dims or (axes[0] if not isinstance(axes[0], int) else axes)
    return _permuted(operation(x, tuple(given)), x, [axis % x.ndim for axis in given])


@masking_rule(torch.transpose, torch.swapaxes, torch.swapdims, any_sizes=True)
def transpose(operation: Operation, x: Masked, *axes: int, **named: int) -> Masked:
    """Two axes swapped; see `permute`."""
    first, second = (*axes, *named.values())
    order = list(range(x.ndim))
    order[first], order[second] = order[second], order[first]
    return _permuted(operation(x, first, second), x, order)


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


@masking_rule(F.channel_shuffle, any_sizes=True)
def channel_shuffle(operation: Operation, x: Masked, groups: int) -> Masked:
    """Position by position."""
    check_images_first(x)
    return x.with_fresh(operation(x, groups))


@masking_rule(torch.unsqueeze, any_sizes=True)
def unsqueeze(operation: Operation, x: Masked, dim: int) -> Masked:
    """A new axis of channels."""
    at = dim % (x.ndim + 1)
    return carry(operation(x, dim), x.visible, tuple(axis + (axis >= at) for axis in x.axes))


@masking_rule(torch.squeeze, any_sizes=True)
def squeeze(operation: Operation, x: Masked, dim: int | tuple[int, ...] | None = None) -> Masked:
    """An axis of one channel less.

    Raises:
        NotImplementedError: the axis is that of images or positions, or not given.
    """
    axes = [] if dim is None else [each % x.ndim for each in ((dim,) if isinstance(dim, int) else dim)]
    if not axes or any(axis in x.axes for axis in axes):
        raise NotImplementedError(f"layer masking squeezes axes of channels alone, got {dim}; {OWN_RULE}")
    removed = [axis for axis in axes if x.shape[axis] == 1]
    return carry(operation(x, dim), x.visible, without_axes(x.axes, removed))


@masking_rule(Tensor.expand, any_sizes=True)
def expand(operation: Operation, x: Masked, *sizes: Any) -> Masked:
    """Channels, or positions along an axis of size 1, repeated.

    Raises:
        NotImplementedError: there are more axes than before.
    """
    features = operation(x, *sizes)
    if features.ndim != x.ndim:
        raise NotImplementedError(f"layer masking repeats axes that features have, got {sizes}; {OWN_RULE}")
    return carry(features, x.visible.expanded(*(features.shape[axis] for axis in x.spatial_axes)), x.axes)


@masking_rule(Tensor.repeat, any_sizes=True)
def repeat(operation: Operation, x: Masked, *repeats: Any) -> Masked:
    """Channels repeated as a whole.

    Raises:
        NotImplementedError: images or positions are repeated, or there are more axes than before.
    """
    counts = repeats if isinstance(repeats[0], int) else repeats[0]
    if len(counts) != x.ndim or any(counts[axis] != 1 for axis in x.axes):
        raise NotImplementedError(f"layer masking repeats channels only, got {tuple(counts)}; {OWN_RULE}")
    return carry(operation(x, *repeats), x.visible, x.axes)


@masking_rule(Tensor.expand_as, any_sizes=True)
def expand_as(operation: Operation, x: Any, like: Tensor) -> Masked | Tensor:
    """In the shape of another tensor: plain ones, such as a gate, stay plain."""
    return expand(Tensor.expand, x, like.shape) if isinstance(x, Masked) else torch.as_tensor(operation(x, like))


@masking_rule(torch.chunk, torch.split, torch.tensor_split, any_sizes=True)
def split(operation: Operation, x: Masked, *args: Any, **kwargs: Any) -> tuple[Masked, ...]:
    """Channels, or positions, in parts.

    Raises:
        NotImplementedError: images would be taken apart.
    """
    dim = args[1] if len(args) > 1 else kwargs.get("dim", 0)
    axis, start, found = dim % x.ndim, 0, []
    if axis == x.axes[0]:
        raise NotImplementedError(
            f"layer masking splits channels or positions, got the axis {dim} of images; {OWN_RULE}"
        )
    for part in operation(x.features, *args, **kwargs):
        places = [slice(None)] * x.ndim
        places[axis] = slice(start, start + part.shape[axis])
        start += part.shape[axis]
        found.append(carry(part, _sliced(x, places), x.axes))
    return tuple(found)


@masking_rule(torch.unbind, any_sizes=True)
def unbind(operation: Operation, x: Masked, dim: int = 0) -> tuple[Masked, ...]:
    """Channels one by one.

    Raises:
        NotImplementedError: images or positions would be taken apart.
    """
    axis = dim % x.ndim
    if axis in x.axes:
        raise NotImplementedError(f"layer masking splits channels only, got axis {dim} of axes {x.axes}; {OWN_RULE}")
    return tuple(carry(part, x.visible, without_axes(x.axes, [axis])) for part in operation(x, dim))


@masking_rule(torch.narrow, any_sizes=True)
def narrow(operation: Operation, x: Masked, dim: int, start: int, length: int) -> Masked:
    """A slice of channels, or of positions with the mask's alike."""
    places = [slice(None)] * x.ndim
    places[dim % x.ndim] = slice(start, start + length)
    return carry(operation(x, dim, start, length), _sliced(x, places), x.axes)


@masking_rule(Tensor.__getitem__, operator.getitem, any_sizes=True)
def index(_operation: Operation, x: Masked, place: Any) -> Masked:
    """A slice of channels, or of positions with the mask's alike; one channel; or a new axis of channels.

    Raises:
        NotImplementedError: another index.
    """
    places = _one_for_each_axis(place, x.ndim)
    kept = [each for each in places if each is not None]
    of_mask = [kept[axis] for axis in x.axes if axis < len(kept)]
    others_fit = all(type(each) in (slice, int) for each in kept)
    if len(kept) != x.ndim or not others_fit or of_mask[0] != slice(None) or int in map(type, of_mask):
        raise NotImplementedError(
            f"layer masking needs an index that keeps all images, and height and width as axes, got {place}; {OWN_RULE}"
        )
    axes = without_axes(x.axes, [axis for axis, each in enumerate(kept) if type(each) is int])
    for at in (at for at, each in enumerate(each for each in places if type(each) is not int) if each is None):
        axes = tuple(axis + (axis >= at) for axis in axes)
    return carry(x.features[tuple(places)], _sliced(x, kept), axes)


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


def _view_of(x: Masked, view: Masked) -> Masked:
    """A view; where layer masking has made features channels-last it may be a copy, which still counts as one."""
    share(view, share_memory(x))
    return view


def _axes_of_view(x: Masked, features: Tensor) -> Axes:
    """The axes of a mask in a view: those ahead of all channels stay there, and so do those behind."""
    before, after, axes = tuple(x.shape), tuple(features.shape), x.axes
    for ahead in range(1, len(axes) + 1):
        behind, added = len(axes) - ahead, len(after) - len(before)
        expected = (*range(ahead), *range(x.ndim - behind, x.ndim))
        if (
            len(after) >= len(axes)
            and axes == expected
            and before[:ahead] == after[:ahead]
            and before[x.ndim - behind :] == after[len(after) - behind :]
        ):
            return tuple(axis if axis < ahead else axis + added for axis in axes)
    raise LosesMap(
        "layer masking follows positions of an image, but here they become a sequence of tokens, as in a transformer, "
        f"which images of several sizes in one batch, and coverage, do not allow; {OWN_RULE}"
    )


def _permuted(features: Tensor, x: Masked, order: Sequence[int]) -> Masked:
    images, *places = (order.index(axis) for axis in x.axes)
    if images > min(places):
        raise refusal_of(x)(
            f"layer masking keeps the axis of the images ahead of height and width, got the order {tuple(order)} of "
            f"axes {x.axes}; {OWN_RULE}"
        )
    if places == sorted(places):
        return carry(features, x.visible, (images, *places))
    moved = (0, 1, *(2 + places.index(place) for place in sorted(places)))
    transposed = x.visible.derive(("transpose", moved), lambda numbers: numbers.permute(moved))
    return carry(features, transposed, (images, *sorted(places)))


def _one_for_each_axis(place: Any, axes: int) -> list[Any]:
    places = list(place) if isinstance(place, tuple) else [place]
    at = next((at for at, each in enumerate(places) if isinstance(each, EllipsisType)), len(places))
    after = places[at + 1 :]
    missing = axes - sum(each is not None for each in places[:at] + after)
    return places[:at] + [slice(None)] * missing + after


def _sliced(x: Masked, places: Sequence[slice]) -> VisibleMap:
    """The map of a slice; from images that are all visible it shows everything."""
    of_positions = [places[axis] for axis in x.spatial_axes]
    if all(each == slice(None) for each in of_positions):
        return x.visible
    key = ("slice", *((each.start, each.stop, each.step) for each in of_positions))
    return x.visible.derive(key, lambda numbers: numbers[(slice(None), slice(None), *of_positions)])
