"""Rules for what moves entries: views, permutes, splits, slices and copies, of maps and of tokens alike."""

import operator
from collections.abc import Sequence
from types import EllipsisType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from maskrobust.lm_modules.masking.arrangement import Arrangement, channels, length, remade, several, united, varying
from maskrobust.lm_modules.masking.axes import Axes, symmetric
from maskrobust.lm_modules.masking.masked import (
    Masked,
    arrange,
    arrangement_of,
    carry,
    check_images_first,
    ended,
)
from maskrobust.lm_modules.masking.memory import share, share_memory
from maskrobust.lm_modules.masking.table import OWN_RULE, Operation, masking_rule
from maskrobust.lm_modules.masking.visible_map import DependsOnSize


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
    """Any view; into a vector for each image, hidden positions are 0 and masking ends.

    Features that layer masking has made channels-last are made contiguous, as a view needs them.
    """
    if args and isinstance(args[0], torch.dtype):
        raise NotImplementedError(f"layer masking does not look at the bits of features as {args[0]}; {OWN_RULE}")
    features = operation(x.features.contiguous(), *args, **kwargs)
    if x.is_map and features.ndim > 2 and (axes := _axes_of_view(x, features)) is not None:
        return _view_of(x, carry(features, x.visible, axes))
    if features.ndim == 2 and features.shape[0] == x.shape[0] and _has_images_ahead(x, features):
        if x.is_map and x.visible.extent is not None:
            raise DependsOnSize
        return torch.as_tensor(operation(x.with_hidden_zero().contiguous(), *args, **kwargs))
    return _view_of(x, arrange(features, x.arrangement.viewed(features.shape)))


@masking_rule(Tensor.contiguous, any_sizes=True)
def contiguous(operation: Operation, x: Masked, **kwargs: Any) -> Masked:
    """The same features in another order of memory."""
    return _view_of(x, x.with_fresh(operation(x.features, **kwargs)))


@masking_rule(torch.permute, any_sizes=True)
def permute(operation: Operation, x: Masked, *axes: Any, dims: Sequence[int] = ()) -> Masked:
    """Another order of axes; height comes before width, or the map is transposed.

    Raises:
        NotImplementedError: the images of a map come after height or width.
    """
    given = tuple(dims or (axes[0] if not isinstance(axes[0], int) else axes))
    order = [axis % x.ndim for axis in given]
    if x.is_map and len(x.axes) > 2:  # signals (B, C, L) may be tokens
        images, *places = map(order.index, x.axes)
        if images > min(places):
            raise NotImplementedError(
                f"layer masking keeps the axis of the images ahead of height and width, got the order {tuple(order)} "
                f"of axes {x.axes}; {OWN_RULE}"
            )
    return arrange(operation(x.features, given), x.arrangement.permuted(order))


@masking_rule(torch.transpose, torch.swapaxes, torch.swapdims, any_sizes=True)
def transpose(_operation: Operation, x: Masked, *axes: int, **named: int) -> Masked:
    """Two axes swapped; see `permute`."""
    first, second = (*axes, *named.values())
    order = list(range(x.ndim))
    order[first], order[second] = order[second], order[first]
    return permute(torch.permute, x, order)


@masking_rule(torch.movedim, torch.moveaxis, any_sizes=True)
def move_axes(_operation: Operation, x: Masked, source: Any, destination: Any) -> Masked:
    """Some axes moved; see `permute`."""
    pairs = zip(*((each,) if isinstance(each, int) else each for each in (destination, source)), strict=True)
    moved = sorted((to % x.ndim, axis % x.ndim) for to, axis in pairs)
    order = [axis for axis in range(x.ndim) if axis not in {axis for _, axis in moved}]
    for to, axis in moved:
        order.insert(to, axis)
    return permute(torch.permute, x, order)


@masking_rule(Tensor.mT.__get__)  # type: ignore[attr-defined]
def transposed(_operation: Operation, x: Masked) -> Masked:
    """The last two axes swapped."""
    return transpose(torch.transpose, x, -2, -1)


@masking_rule(F.channel_shuffle, any_sizes=True)
def channel_shuffle(operation: Operation, x: Masked, groups: int) -> Masked:
    """Position by position."""
    check_images_first(x)
    return x.with_fresh(operation(x, groups))


@masking_rule(torch.unsqueeze, any_sizes=True)
def unsqueeze(operation: Operation, x: Masked, dim: int) -> Masked:
    """A new axis of channels."""
    at, features = dim % (x.ndim + 1), operation(x.features, dim)
    if x.is_map:  # of which the axis of a single image is known
        return carry(features, x.visible, tuple(axis + (axis >= at) for axis in x.axes))
    return arrange(features, x.arrangement.with_axis(at))


@masking_rule(torch.squeeze, any_sizes=True)
def squeeze(operation: Operation, x: Masked, dim: int | tuple[int, ...] | None = None) -> Masked | Tensor:
    """An axis of one channel, or of one position, less; without the last of positions, masking ends.

    Raises:
        NotImplementedError: the axis is that of images, or not given.
    """
    axes = [] if dim is None else [each % x.ndim for each in ((dim,) if isinstance(dim, int) else dim)]
    if not axes or any(map(x.has_images_along, axes)):
        raise NotImplementedError(f"layer masking squeezes axes of channels or positions, got {dim}; name the axis.")
    left = x.arrangement.without([axis for axis in axes if x.shape[axis] == 1])
    return ended(operation(x.features, dim), left)


@masking_rule(Tensor.expand, any_sizes=True)
def expand(operation: Operation, x: Masked, *sizes: Any) -> Masked:
    """Channels, or positions along an axis of size 1, repeated.

    Raises:
        NotImplementedError: there are more axes than before.
    """
    features = operation(x.features, *sizes)
    if features.ndim != x.ndim:
        raise NotImplementedError(f"layer masking repeats axes that features have, got {sizes}; {OWN_RULE}")
    if x.is_map:
        return carry(features, x.visible.expanded(*(features.shape[axis] for axis in x.spatial_axes)), x.axes)
    return arrange(features, x.arrangement.resized(features.shape))


@masking_rule(Tensor.repeat, any_sizes=True)
def repeat(operation: Operation, x: Masked, *repeats: Any) -> Masked:
    """Channels repeated as a whole.

    Raises:
        NotImplementedError: images or positions are repeated, or there are more axes than before.
    """
    counts = repeats if isinstance(repeats[0], int) else repeats[0]
    if len(counts) != x.ndim or any(count != 1 and x.has_positions_along(axis) for axis, count in enumerate(counts)):
        raise NotImplementedError(f"layer masking repeats channels only, got {tuple(counts)}; {OWN_RULE}")
    features = operation(x.features, *repeats)
    return arrange(features, x.arrangement.resized(features.shape))


@masking_rule(torch.repeat_interleave)
def repeat_interleave(operation: Operation, x: Masked, *given: Any, **named: Any) -> Masked:
    """Each of an axis repeated.

    Raises:
        NotImplementedError: not all as often, or no axis is given.
    """
    repeats, dim = (
        {**dict(zip(("repeats", "dim"), given, strict=False)), **named}.get(key) for key in ("repeats", "dim")
    )
    if dim is None or not isinstance(repeats, int):
        raise NotImplementedError(f"layer masking repeats along an axis, all as often; {OWN_RULE}")
    axes = [*x.arrangement.axes]
    axes[dim] = (*axes[dim], *channels(repeats))
    result = operation(x.features, *given, **named)
    return arrange(result, x.arrangement.with_axes(axes).viewed(result.shape))


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
    axis, start, found = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % x.ndim, 0, []
    for part in operation(x.features, *args, **kwargs):
        found.append(arrange(part, x.arrangement.sliced(axis, start, part.shape[axis])))
        start += part.shape[axis]
    return tuple(found)


@masking_rule(torch.unbind, any_sizes=True)
def unbind(operation: Operation, x: Masked, dim: int = 0) -> tuple[Masked | Tensor, ...]:
    """Channels one by one, or tokens.

    Raises:
        NotImplementedError: images, or the positions of a map, would be taken apart.
    """
    axis = dim % x.ndim
    if x.is_map and axis in x.axes:
        raise NotImplementedError(f"layer masking splits channels only, got axis {dim} of axes {x.axes}; {OWN_RULE}")
    parts = enumerate(operation(x.features, dim))
    return tuple(ended(part, x.arrangement.sliced(axis, at, 1).without([axis])) for at, part in parts)


@masking_rule(torch.narrow, any_sizes=True)
def narrow(operation: Operation, x: Masked, dim: int, start: int, length: int) -> Masked:
    """A slice of channels, or of positions with the mask's alike."""
    return arrange(operation(x.features, dim, start, length), x.arrangement.sliced(dim % x.ndim, start, length))


@masking_rule(Tensor.__getitem__, operator.getitem, any_sizes=True)
def index(_operation: Operation, x: Any, place: Any) -> Masked | Tensor:
    """Slices, and one of an axis: of channels, or of positions, as the last of a signal and the class token.

    Masking ends with the last axis of positions; the result is 0 for images of which this one is hidden.

    Raises:
        NotImplementedError: another index.
    """
    places = _one_for_each_axis(place, getattr(x, "ndim", 0))
    if not isinstance(x, Masked) or not all(each is None or type(each) in (slice, int) for each in places):
        raise NotImplementedError(
            f"layer masking needs an index of slices and numbers, got {place}; choose by torch.where, or {OWN_RULE}"
        )
    kept = [each for each in places if each is not None]
    if x.is_map and x.visible.extent is not None and any(type(kept[axis]) is int for axis in x.spatial_axes):
        raise DependsOnSize
    arrangement, removed = x.arrangement, []
    for axis, each in enumerate(kept):
        if isinstance(each, int):
            arrangement = arrangement.sliced(axis, each % x.shape[axis], 1)
            removed.append(axis)
        else:
            taken = range(*each.indices(x.shape[axis]))
            arrangement = arrangement.sliced(axis, taken.start, len(taken), taken.step)
    result = ended(x.features[tuple(kept)], arrangement.without(removed))
    for at in (at for at, each in enumerate(each for each in places if not isinstance(each, int)) if each is None):
        result = unsqueeze(torch.unsqueeze, result, at) if isinstance(result, Masked) else result.unsqueeze(at)
    return result


@masking_rule(Tensor.__setitem__)
def write(_operation: Operation, x: Masked, k: Any, v: Any) -> Masked:
    """A slice changed in place, as visible as what is written.

    Raises:
        NotImplementedError: another index.
    """
    places = tuple(_one_for_each_axis(k, x.ndim))
    if not all(type(each) is slice for each in places):
        raise NotImplementedError(f"layer masking writes to slices alone, got {k}; {OWN_RULE}")
    features, own = x.features.clone(), x.arrangement
    written = torch.as_tensor(v).expand_as(features[places]) if not isinstance(v, Masked) else v
    features[places] = written.features if isinstance(written, Masked) else written
    other = arrangement_of(written, x).resized(features[places].shape)
    axes = [
        united(kinds) if each == slice(None) else several(size)
        for each, size, *kinds in zip(places, x.shape, own.kinds, other.kinds, strict=True)
    ]
    mask = own.positions.expand([length(axis) for axis in varying(axes)]).clone()
    mask[places] = other.positions
    return arrange(features, remade(mask, axes, own.places.like))


@masking_rule(F.unfold)
def windows_of(
    operation: Operation, x: Masked, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Masked:
    """Windows of a map side by side, with zeros around it that the network sees."""
    check_images_first(x)
    result = operation(x.features, kernel_size, dilation, padding, stride)
    of_map = x.arrangement

    def cut() -> Arrangement:
        framed = F.pad(x.positions.float(), symmetric(padding, 2), value=1.0)
        shown = operation(framed, kernel_size, dilation, 0, stride) > 0
        within = (*channels(x.shape[1]), *several(shown.shape[1]))
        axes = [of_map.kinds[0], within, several(shown.shape[2])]
        return remade(shown.repeat(1, x.shape[1], 1), axes, of_map.places.like)

    key = ("unfold", x.shape[1], str((kernel_size, dilation, padding, stride)))
    return arrange(result, of_map.places.once(key, cut))


def _has_images_ahead(x: Masked, vectors: Tensor) -> bool:
    """Whether a view (B, N) holds a vector of positions for each image."""
    if x.is_map:
        return x.axes[0] == 0
    after = x.arrangement.viewed(vectors.shape)
    return after.axes[0] == x.arrangement.axes[0] and after.varies(1)


def _axes_of_view(x: Masked, features: Tensor) -> Axes | None:
    """The axes of a map in a view: those ahead of all channels stay there, and so do those behind; None for others."""
    before, after, axes = tuple(x.shape), tuple(features.shape), x.axes
    for ahead in range(1, len(axes) + 1):
        behind, added = len(axes) - ahead, len(after) - len(before)
        if (
            len(after) >= len(axes)
            and axes == (*range(ahead), *range(x.ndim - behind, x.ndim))
            and before[:ahead] == after[:ahead]
            and before[x.ndim - behind :] == after[len(after) - behind :]
        ):
            return tuple(axis if axis < ahead else axis + added for axis in axes)
    return None


def _view_of(x: Masked, view: Masked) -> Masked:
    """A view; where layer masking has made features channels-last it may be a copy, which still counts as one."""
    share(view, share_memory(x))
    return view


def _one_for_each_axis(place: Any, axes: int) -> list[Any]:
    places = list(place) if isinstance(place, tuple) else [place]
    at = next((at for at, each in enumerate(places) if isinstance(each, EllipsisType)), len(places))
    after = places[at + 1 :]
    missing = axes - sum(each is not None for each in places[:at] + after)
    return places[:at] + [slice(None)] * missing + after
