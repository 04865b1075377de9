"""Rules for positions in any arrangement, as of tokens, windows and attention.

One rule does for every product: a result is visible where any two factors of a term of it are. So the product of
queries and keys is visible where both are, that of attention and values where the query is, and masking ends where
positions are contracted, as by attention over channels. A softmax over positions leaves hidden ones out.
"""

from collections.abc import Sequence
from types import EllipsisType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from maskrobust.lm_modules.masking.arrangement import (
    IMAGES,
    Arrangement,
    Axis,
    Part,
    Places,
    attends_to_itself,
    channels,
    length,
    product,
    remade,
    united,
    varying,
)
from maskrobust.lm_modules.masking.axes import symmetric
from maskrobust.lm_modules.masking.masked import Arranged, Masked, arrange, check_images_first, masked_in
from maskrobust.lm_modules.masking.rules import convolution, merging, normalisation, pointwise, pooling, reshaping
from maskrobust.lm_modules.masking.rules.pointwise import OWN_RULE
from maskrobust.lm_modules.masking.table import Operation, anywhere, masking_rule

_NORMS = (torch.norm, Tensor.norm, torch.linalg.vector_norm)


@anywhere(pointwise.pointwise, pointwise.moved)
def at_each(operation: Operation, *operands: Any, **kwargs: Any) -> Masked | Tensor:
    """Known where every masked operand is."""
    masked = masked_in((*operands, *kwargs.values()))
    result = operation(*operands, **kwargs)
    if operation in (Tensor.to, Tensor.type_as) and not isinstance(operands[0], Masked):
        return torch.as_tensor(result)
    return _met(result, masked)


@anywhere(merging.residual)
def residual(operation: Operation, left: Any, right: Any, **kwargs: Any) -> Masked:
    """Sum or difference: visible where the merge rule says so."""
    first, *others = masked = masked_in((left, right))
    union = first.arrangement.places.like.options.merge == "union" and bool(others)
    if union:
        left, right = first.with_hidden_zero(), others[0].with_hidden_zero()
    result = _met(operation(left, right, **kwargs), masked, in_any=union)
    result.is_of_copies = union
    return result


@anywhere(pointwise.quotient, pointwise.singular)
def singular(operation: Operation, *operands: Any, **kwargs: Any) -> Masked:
    """Quotients, roots, powers and logarithms, of 1 at hidden positions."""
    whole = [each.with_hidden_one() if isinstance(each, Masked) else each for each in operands]
    if operation in (torch.div, Tensor.div, torch.true_divide, Tensor.__truediv__) and operands:
        whole[0] = operands[0]
    result = _met(operation(*whole, **kwargs), masked_in((*operands, *kwargs.values())))
    result.is_of_copies = True
    return result


@anywhere(pointwise.over_last_axis)
def over_last_axis(operation: Operation, x: Any, *args: Any, **kwargs: Any) -> Masked:
    """A linear layer or a norm over channels that are the last axis.

    Where positions have become channels, as in the merging of patches, a result is visible where any of them is, and
    hidden ones count as 0.

    Raises:
        NotImplementedError: the last axis is one of positions alone, a norm goes over further axes, or over all
            positions, whose statistics would count the hidden ones.
    """
    shape = kwargs.get("normalized_shape", args[0]) if operation is not F.linear else (1,)
    kinds = {part.source for part in x.arrangement.axes[-1]} if isinstance(x, Masked) else {0}
    if len(shape) != 1 or (kinds and None not in kinds):
        raise NotImplementedError(
            f"layer masking has no rule for linear layers or norms over positions, as in a mixer; {OWN_RULE}"
        )
    arrangement, features = x.arrangement, x.features
    if arrangement.varies(-1):
        features = features.masked_fill(~arrangement.positions, 0.0)
        arrangement = arrangement.reduced([x.ndim - 1])
        if operation is not F.linear and arrangement.ends:
            raise NotImplementedError(
                "layer masking needs norms over channels, but here one goes over all positions; use group norm, whose "
                "statistics can leave hidden positions out."
            )
    result = operation(features, *args, **kwargs)
    return arrange(result, arrangement.resized(result.shape))


@anywhere(pointwise.over_channels)
def softmax(operation: Operation, x: Masked, dim: int | None = None, *args: Any, **kwargs: Any) -> Masked:
    """Over channels position by position; over positions of the visible ones.

    Raises:
        NotImplementedError: another function than a softmax over positions.
    """
    if dim is None:
        raise NotImplementedError(f"layer masking needs the axis of a softmax; {OWN_RULE}")
    axis, arrangement = dim % x.ndim, x.arrangement
    if not arrangement.varies(axis):
        if operation in (torch.argmax, Tensor.argmax):
            raise NotImplementedError(f"layer masking takes no argmax of tokens; {OWN_RULE}")
        return x.with_fresh(operation(x.features, dim, *args, **kwargs))
    if operation not in (F.softmax, torch.softmax, Tensor.softmax):
        raise NotImplementedError(f"layer masking takes a softmax of positions alone; {OWN_RULE}")
    least = torch.finfo(x.dtype).min
    result = operation(x.features.masked_fill(~arrangement.positions, least), dim, *args, **kwargs)
    return arrange(result, arrangement)


@anywhere(pointwise.normalize)
def normalize(operation: Operation, x: Masked, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Masked:
    """Of channels, or of the visible positions of a channel.

    Raises:
        NotImplementedError: the axis is that of the images.
    """
    arrangement = x.arrangement
    if any(part.source == IMAGES for part in arrangement.kinds[dim]):
        raise NotImplementedError(f"layer masking normalises over no images, got axis {dim}; {OWN_RULE}")
    zeroed = x.with_hidden_zero() if arrangement.varies(dim) else x.features
    return arrange(operation(zeroed, p, dim, eps), arrangement)


@anywhere(normalisation.batch_norm, normalisation.group_norm)
def norm_of_tokens(operation: Operation, x: Masked, *args: Any, **kwargs: Any) -> Masked:
    """Of (B, C, N) or (N, C), as of a map that is one position wide."""
    rule = normalisation.group_norm if operation is F.group_norm else normalisation.batch_norm
    behind = [1] * (4 - x.ndim)
    of_map = arrange(x.features.reshape(*x.shape, *behind), x.arrangement.viewed([*x.shape, *behind]))
    if not isinstance(of_map, Arranged):
        return rule(operation, of_map, *args, **kwargs)
    result = rule(operation, of_map.as_map(), *args, **kwargs)
    return arrange(result.features.reshape(x.shape), x.arrangement)


@anywhere(reshaping.view)
def view(operation: Operation, x: Masked, *args: Any, **kwargs: Any) -> Masked | Tensor:
    """Any view; into a vector for each image, hidden positions are 0 and masking ends."""
    if args and isinstance(args[0], torch.dtype):
        raise NotImplementedError(f"layer masking does not look at the bits of features as {args[0]}; {OWN_RULE}")
    features, before = operation(x.features.contiguous(), *args, **kwargs), x.arrangement
    after = before.viewed(features.shape)
    if features.ndim == 2 and after.axes[0] == before.axes[0] and after.varies(1):
        return operation(x.with_hidden_zero().contiguous(), *args, **kwargs)  # type: ignore[no-any-return]
    return reshaping._view_of(x, arrange(features, after))


@anywhere(reshaping.view_as)
def view_as(operation: Operation, x: Any, like: Any) -> Masked | Tensor:
    """In the shape of another tensor."""
    return view(Tensor.reshape, x, like.shape) if isinstance(x, Masked) else torch.as_tensor(operation(x, like))


@anywhere(reshaping.permute)
def permute(operation: Operation, x: Masked, *axes: Any, dims: Sequence[int] = ()) -> Masked:
    """Another order of axes."""
    given = tuple(dims or (axes[0] if not isinstance(axes[0], int) else axes))
    return arrange(operation(x.features, given), x.arrangement.permuted([axis % x.ndim for axis in given]))


@anywhere(reshaping.transpose)
def transpose(operation: Operation, x: Masked, *axes: int, **named: int) -> Masked:
    """Two axes swapped."""
    first, second = (*axes, *named.values())
    order = list(range(x.ndim))
    order[first], order[second] = order[second], order[first]
    return arrange(operation(x.features, first, second), x.arrangement.permuted(order))


@masking_rule(Tensor.mT.__get__)  # type: ignore[attr-defined]
@anywhere()
def transposed(_operation: Operation, x: Masked) -> Masked:
    """The last two axes swapped."""
    return transpose(torch.transpose, x, -2, -1)


@anywhere(reshaping.unsqueeze)
def unsqueeze(operation: Operation, x: Masked, dim: int) -> Masked:
    """A new axis of channels."""
    return arrange(operation(x.features, dim), x.arrangement.with_axis(dim % (x.ndim + 1)))


@masking_rule(torch.repeat_interleave)
@anywhere()
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


@anywhere(reshaping.split)
def split(operation: Operation, x: Masked, *args: Any, **kwargs: Any) -> tuple[Masked, ...]:
    """Channels, or positions, in parts."""
    axis, start, found = (args[1] if len(args) > 1 else kwargs.get("dim", 0)) % x.ndim, 0, []
    for part in operation(x.features, *args, **kwargs):
        found.append(arrange(part, x.arrangement.sliced(axis, start, part.shape[axis])))
        start += part.shape[axis]
    return tuple(found)


@anywhere(reshaping.unbind)
def unbind(operation: Operation, x: Masked, dim: int = 0) -> tuple[Masked, ...]:
    """Channels one by one, or positions."""
    axis = dim % x.ndim
    parts = enumerate(operation(x.features, dim))
    return tuple(arrange(part, x.arrangement.sliced(axis, at, 1).without([axis])) for at, part in parts)


@anywhere(reshaping.index)
def index(_operation: Operation, x: Any, place: Any) -> Masked | Tensor:
    """Slices, and one of an axis, such as the class token, with which masking ends.

    Raises:
        NotImplementedError: another index.
    """
    places = reshaping._one_for_each_axis(place, getattr(x, "ndim", 0))
    if not isinstance(x, Masked) or not all(each is None or type(each) in (slice, int) for each in places):
        raise NotImplementedError(f"layer masking needs an index of slices and numbers, got {place}; {OWN_RULE}")
    assert EllipsisType not in map(type, places)
    arrangement, removed = x.arrangement, []
    for axis, each in enumerate(places):
        if each is None:
            arrangement = arrangement.with_axis(axis)
        elif isinstance(each, int):
            arrangement = arrangement.sliced(axis, each % arrangement.shape[axis], 1)
            removed.append(axis)
        else:
            taken = range(*each.indices(arrangement.shape[axis]))
            arrangement = arrangement.sliced(axis, taken.start, len(taken), taken.step)
    return ended(x.features[tuple(places)], arrangement.without(removed))


@masking_rule(Tensor.__setitem__)
@anywhere()
def write(_operation: Operation, x: Masked, k: Any, v: Any) -> Masked:
    """A slice changed in place, as visible as what is written.

    Raises:
        NotImplementedError: another index.
    """
    places = tuple(reshaping._one_for_each_axis(k, x.ndim))
    if not all(type(each) is slice for each in places):
        raise NotImplementedError(f"layer masking writes to slices alone, got {k}; {OWN_RULE}")
    features, own = x.features.clone(), x.arrangement
    written = torch.as_tensor(v).expand_as(features[places]) if not isinstance(v, Masked) else v
    features[places] = written.features if isinstance(written, Masked) else written
    other = arrangement_of(written, x).resized(features[places].shape)
    axes = [
        united(kinds) if each == slice(None) else _positions(size)
        for each, size, *kinds in zip(places, x.shape, own.kinds, other.kinds, strict=True)
    ]
    mask = own.positions.expand([length(axis) for axis in varying(axes)]).clone()
    mask[places] = other.positions
    return arrange(features, remade(mask, axes, own.places.like))


@masking_rule(F.unfold)
@anywhere()
def windows_of(
    operation: Operation, x: Masked, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Masked:
    """Windows of a map side by side, with zeros around it that the network sees."""
    check_images_first(x := x.as_map() if isinstance(x, Arranged) else x)
    result = operation(x.features, kernel_size, dilation, padding, stride)
    of_map = x.arrangement

    def cut() -> Arrangement:
        framed = F.pad(x.positions.float(), symmetric(padding, 2), value=1.0)
        shown = operation(framed, kernel_size, dilation, 0, stride) > 0
        within = (*channels(x.shape[1]), *_positions(shown.shape[1]))
        axes = [of_map.kinds[0], within, _positions(shown.shape[2])]
        return remade(shown.repeat(1, x.shape[1], 1), axes, of_map.places.like)

    key = ("unfold", x.shape[1], str((kernel_size, dilation, padding, stride)))
    return arrange(result, of_map.places.once(key, cut))


@anywhere(merging.concatenate)
def concatenate(operation: Operation, branches: Sequence[Any], dim: int = 0) -> Masked:
    """Channels of several branches, visible where any is; or positions side by side, where plain ones are visible.

    Raises:
        NotImplementedError: the axis is that of the images.
    """
    masked = masked_in(branches)
    axis, like = dim % masked[0].ndim, masked[0]
    each_of = [arrangement_of(branch, like) for branch in branches]
    if not any(each.varies(axis) for each in each_of):
        zeroed = [each.with_hidden_zero() if isinstance(each, Masked) else each for each in branches]
        result = operation(zeroed, axis)
        return _met(result, masked, in_any=True)
    result = operation([each.features if isinstance(each, Masked) else each for each in branches], axis)

    def join() -> Arrangement:
        shapes = [each.positions.shape for each in each_of]
        size = [max(sizes) for sizes in zip(*shapes, strict=True)]
        masks = [
            each.positions.expand([branch.shape[at] if at == axis else one for at, one in enumerate(size)])
            for each, branch in zip(each_of, branches, strict=True)
        ]
        axes = [*map(united, zip(*(each.kinds for each in each_of), strict=True))]
        if any(part.source == 0 for part in axes[axis]):
            raise NotImplementedError(f"layer masking concatenates no images; {OWN_RULE}")
        axes[axis] = _positions(result.shape[axis])
        return remade(torch.cat(masks, axis), axes, like.arrangement.places.like)

    key = ("joined", axis, result.shape[axis], tuple(each_of))
    return arrange(result, like.arrangement.places.once(key, join))


@anywhere(merging.stack)
def stack(operation: Operation, branches: Sequence[Any], dim: int = 0) -> Masked:
    """Along a new axis of channels, by `concatenate`; along axis 0 maps, whose sum is that of branches."""
    axis = dim % (branches[0].ndim + 1)
    if axis == 0:
        return merging.stack(operation, [each.as_map() if isinstance(each, Arranged) else each for each in branches])
    longer = [
        unsqueeze(torch.unsqueeze, each, axis) if isinstance(each, Masked) else each.unsqueeze(axis)
        for each in branches
    ]
    return concatenate(torch.cat, longer, axis)


@anywhere(convolution.pad)
def pad(
    operation: Operation, x: Masked, pad: tuple[int, ...], mode: str = "constant", value: float | None = None
) -> Masked:
    """Zeros ahead of windows that attend, which the network sees; of a map (B, C, H, W) as ahead of a convolution.

    Raises:
        NotImplementedError: images are padded, or with something else than zeros.
    """
    arrangement = x.arrangement
    if len(pad) == 4 and x.ndim == 4 and not arrangement.varies(1) and arrangement.varies(2) and arrangement.varies(3):
        return convolution.pad(operation, x.as_map() if isinstance(x, Arranged) else x, pad, mode, value)
    sizes = [(0, 0)] * (x.ndim - len(pad) // 2) + [*zip(pad[-2::-2], pad[::-2], strict=True)]
    padded = [axis for axis, each in enumerate(sizes) if any(each)]
    result = operation(x.features, pad, mode, value)
    if not any(map(arrangement.varies, padded)):
        return arrange(result, arrangement.resized(result.shape))
    if mode != "constant" or value not in (None, 0) or min(pad) < 0:
        raise NotImplementedError(f"layer masking pads tokens with zeros, got mode '{mode}' and {value}; {OWN_RULE}")

    def frame() -> Arrangement:
        positions, axes = arrangement.positions, arrangement.kinds
        for axis in padded:
            if any(part.source == 0 for part in axes[axis]):
                raise NotImplementedError(f"layer masking pads no images; {OWN_RULE}")
            axes[axis] = _positions(result.shape[axis])
            positions = positions.expand([size if at == axis else -1 for at, size in enumerate(x.shape)])
        flat = [each for pair in sizes[::-1] for each in pair]
        return remade(F.pad(positions, flat, value=1), axes, arrangement.places.like)

    return arrange(result, arrangement.places.once(("pad", arrangement.axes, tuple(pad)), frame))


@anywhere(pooling.mean, pooling.total, pooling.largest, pooling.norm, pooling.vector_norm)
def reduce(operation: Operation, x: Masked, *args: Any, **kwargs: Any) -> Masked | Tensor:
    """Over positions of the visible ones, over channels position by position."""
    names = ("p", "dim", "keepdim") if operation in _NORMS else ("dim", "keepdim")
    named = {**dict(zip(names, args, strict=False)), **kwargs}
    dim, keepdim, dtype = named.get("dim"), named.get("keepdim", False), named.get("dtype")
    axes = sorted(axis % x.ndim for axis in ((dim,) if isinstance(dim, int) else dim or ()))
    arrangement = x.arrangement
    if not axes:
        raise NotImplementedError(f"layer masking needs the axes of a reduction; {OWN_RULE}")
    after = arrangement.reduced(axes)
    after = after if keepdim else after.without(axes)
    if not any(map(arrangement.varies, axes)):
        return arrange(operation(x.features, *args, **kwargs), after)
    if operation in (torch.mean, Tensor.mean):
        means, counts = pooling.mean_along(x, tuple(axes), keepdim, dtype)
        result = ended(means, after)
        if isinstance(result, Masked):
            result.counts = counts
        return result
    if operation in (torch.amax, Tensor.amax):
        least = torch.finfo(x.dtype).min
        result = operation(x.features.masked_fill(~arrangement.positions, least), *args, **kwargs)
        result = result.masked_fill(~after.positions, 0.0)
    else:
        result = operation(x.with_hidden_zero(), *args, **kwargs)
    return ended(result, after)


@masking_rule(torch.matmul, torch.bmm, Tensor.__matmul__, Tensor.__rmatmul__)
@anywhere()
def matrix_product(operation: Operation, *factors: Any) -> Masked | Tensor:
    """Visible where any two factors of a term are; hidden ones count as 0."""
    first, second = factors[::-1] if operation is Tensor.__rmatmul__ else factors
    like = masked_in((first, second))[0]
    if min(first.ndim, second.ndim) < 2:
        raise NotImplementedError(f"layer masking multiplies matrices, got a vector; {OWN_RULE}")
    left, right = arrangement_of(first, like), arrangement_of(second, like)
    plain = [each.features if isinstance(each, Masked) else each for each in (first, second)]
    if left.varies(-1) or right.varies(-2):
        if isinstance(first, Masked) and not attends_to_itself(left, right):
            plain[0] = first.with_hidden_zero()
        if isinstance(second, Masked):
            plain[1] = second.with_hidden_zero()
    result = torch.matmul(*plain)
    return ended(result, product(left, right, result.shape))


@masking_rule(torch.einsum)
@anywhere()
def einsum(operation: Operation, equation: str, *operands: Any) -> Masked | Tensor:
    """Likewise.

    Raises:
        NotImplementedError: the equation names no result, or has an ellipsis.
    """
    given = operands[0] if type(operands[0]) in (list, tuple) else operands
    terms, arrow, named = equation.replace(" ", "").partition("->")
    if not arrow or "." in equation:
        raise NotImplementedError(f"layer masking needs an equation that names all axes, got '{equation}'; {OWN_RULE}")
    like = masked_in(given)[0]
    each_of = [arrangement_of(each, like) for each in given]
    zeroed = [each.with_hidden_zero() if isinstance(each, Masked) else each for each in given]
    found: dict[str, list[Axis]] = {}
    for letters, own in zip(terms.split(","), each_of, strict=True):
        for axis, letter in enumerate(letters):
            found.setdefault(letter, []).append(own.kinds[axis])

    def multiply() -> Arrangement:
        mask = operation(equation, *(own.positions.float() for own in each_of)) > 0
        return remade(mask, [united(found[letter]) for letter in named], like.arrangement.places.like)

    key = ("einsum", equation, tuple(each_of))
    return ended(operation(equation, *zeroed), like.arrangement.places.once(key, multiply))


@masking_rule(F.scaled_dot_product_attention)
@anywhere()
def attention(
    operation: Operation, query: Any, key: Any, value: Any, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Masked | Tensor:  # fmt: skip
    """To the visible keys."""
    like = masked_in((query, key, value))[0]
    queries, keys, values = (arrangement_of(each, like) for each in (query, key, value))
    plain = [each.features if isinstance(each, Masked) else each for each in (query, key, value)]
    if is_causal:
        raise NotImplementedError(f"layer masking takes no causal attention, whose tokens have an order; {OWN_RULE}")
    if isinstance(attn_mask, Masked):  # as one that is made from queries
        attn_mask = attn_mask.with_hidden_zero()
    if any(each.varies(-1) for each in (queries, keys, values)):
        raise NotImplementedError(f"layer masking needs attention with channels last and a plain mask; {OWN_RULE}")
    bias = _bias(keys, query.dtype) if keys.varies(-2) else None
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            attn_mask = torch.zeros((), dtype=query.dtype, device=query.device).where(attn_mask, -torch.inf)
        bias = attn_mask if bias is None else bias + attn_mask
        if isinstance(value, Masked):  # of which the network's own mask may leave hidden ones alone
            plain[2] = value.with_hidden_zero()
    if bias is not None:
        bias = bias.expand(*bias.shape[:-2], query.shape[-2], key.shape[-2])
    result = operation(*plain, attn_mask=bias, dropout_p=dropout_p, scale=scale, enable_gqa=enable_gqa)
    if queries.places is keys.places is values.places and queries.axes[:-1] == keys.axes[:-1] == values.axes[:-1]:
        return arrange(result, queries.resized(result.shape))
    order = [*range(keys.positions.ndim - 2), -1, -2]
    weights = product(queries, keys.permuted(order), [*result.shape[:-1], key.shape[-2]])
    return ended(result, product(weights, values, result.shape))


@masking_rule(F.multi_head_attention_forward)
@anywhere()
def multi_head_attention(
    operation: Operation, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any
) -> tuple[Masked, Masked | Tensor | None]:
    """Attention to the visible keys, as of `torch.nn.MultiheadAttention`, and weights (B, N, N) or (B, heads, N, N).

    Raises:
        NotImplementedError: queries, keys and values are not at the same positions, or have a mask of their own.
    """
    masked = masked_in((query, key, value))
    arrangement = masked[0].arrangement
    if len(masked) != 3 or any(each.arrangement != arrangement for each in masked) or query.ndim != 3:
        raise NotImplementedError(f"layer masking needs attention of tokens to themselves; {OWN_RULE}")
    if any(kwargs.get(name) is not None for name in ("key_padding_mask", "attn_mask")):
        raise NotImplementedError(
            f"layer masking needs torch.nn.MultiheadAttention without key_padding_mask and attn_mask; {OWN_RULE}"
        )
    length, images, _ = query.shape
    shown = _or_all(arrangement.positions, 0)[:, :, 0].expand(length, images).T
    given = {**kwargs, "key_padding_mask": ~shown}
    result, weights = operation(query.features, key.features, value.features, *args, **given)
    if weights is not None:
        queries = arrangement.resized([length, images, 1]).permuted([1, 0, 2])
        of_weights = product(queries, queries.permuted([0, 2, 1]), [images, length, length])
        weights = ended(weights, of_weights if weights.ndim == 3 else of_weights.with_axis(1, weights.shape[1]))
    return arrange(result, arrangement), weights


def arrangement_of(x: Any, like: Masked) -> Arrangement:
    """Where the positions of an operand lie; a plain one has none."""
    if isinstance(x, Masked):
        return x.arrangement
    places = like.arrangement.places
    everywhere = places.once("everywhere", lambda: Places(places.shown.new_ones(1), places.like))
    return Arrangement(everywhere, tuple(map(channels, x.shape)))


def ended(features: Tensor, arrangement: Arrangement) -> Masked | Tensor:
    """Masked features; a plain tensor with 0 for hidden images where no positions are left."""
    if features.numel() == 0:
        return features
    if not arrangement.ends:
        return arrange(features, arrangement)
    return features.masked_fill(~arrangement.positions, 0.0)


def _met(result: Tensor, masked: Sequence[Masked], *, in_any: bool = False) -> Masked:
    first, *others = (each.arrangement for each in masked)
    return arrange(result, first.met(others, result.shape, in_any=in_any))


def _bias(keys: Arrangement, dtype: torch.dtype) -> Tensor:
    """(..., 1, keys): 0 for visible keys, and for all where none is; the least half number for the others."""

    def make() -> Tensor:
        shown = _or_all(keys.positions, -2).mT
        return torch.zeros((), dtype=dtype, device=shown.device).where(shown, torch.finfo(dtype).min / 2)

    bias: Tensor = keys.places.once(("bias", keys.axes, dtype), make)
    return bias


def _positions(size: int) -> Axis:
    return (Part(size, 1),) if size > 1 else ()


def _or_all(positions: Tensor, axis: int) -> Tensor:
    return positions | ~positions.any(axis, keepdim=True)
