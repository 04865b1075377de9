"""Rules for products of tokens, and attention.

One rule does for every product: a result is visible where any two factors of a term of it are. So the product of
queries and keys is visible where both are, that of attention and values where the query is, and masking ends where
positions are contracted, as by attention over channels. A softmax over positions leaves hidden ones out.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from maskrobust.lm_modules.masking.arrangement import Arrangement, Axis, attends_to_itself, product, remade, united
from maskrobust.lm_modules.masking.masked import Masked, arrange, arrangement_of, ended, masked_in
from maskrobust.lm_modules.masking.table import OWN_RULE, Operation, masking_rule


@masking_rule(torch.matmul, torch.bmm, Tensor.__matmul__, Tensor.__rmatmul__)
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


def _bias(keys: Arrangement, dtype: torch.dtype) -> Tensor:
    """(..., 1, keys): 0 for visible keys, and for all where none is; the least half number for the others."""

    def make() -> Tensor:
        shown = _or_all(keys.positions, -2).mT
        return torch.zeros((), dtype=dtype, device=shown.device).where(shown, torch.finfo(dtype).min / 2)

    bias: Tensor = keys.places.once(("bias", keys.axes, dtype), make)
    return bias


def _or_all(positions: Tensor, axis: int) -> Tensor:
    return positions | ~positions.any(axis, keepdim=True)
