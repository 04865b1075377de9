"""The same layer masking on rows: features as (B x H x W, C), touching only the positions that need it.

In channels-last memory a feature map is a matrix with one row for each position, and picking rows is a plain copy.
Where hidden positions touch visible ones is a thin line, so padding only these rows costs far less than padding
everywhere. The number of such rows depends on the mask, which `torch.compile` cannot trace; there `functional` is used
instead.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from maskrobust.lm_modules.masking.morphology import RingRows


def to_rows(features: Tensor) -> Tensor:
    """(B, C, H, W) as (B x H x W, C); a view where the features are channels-last, else a copy."""
    return features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])


def gather_rows(features: Tensor, rows: Tensor, row_of: Tensor) -> Tensor:
    """The visible rows of a feature map.

    Args:
        features: (B, C, H, W).
        rows: (N,) int64 from `row_indices`.
        row_of: (B x H x W,) int64 from `row_of` for the same positions.

    Returns:
        (N, C).
    """
    gathered: Tensor = _GatherRows.apply(features, rows, row_of)  # type: ignore[no-untyped-call]
    return gathered


def scatter_rows(values: Tensor, rows: Tensor, row_of: Tensor, shape: torch.Size) -> Tensor:
    """A feature map with given visible rows, and 0 elsewhere.

    Args:
        values: (N, C).
        rows: (N,) int64 from `row_indices`.
        row_of: (B x H x W,) int64 from `row_of` for the same positions.
        shape: (B, C, H, W) of the result.

    Returns:
        (B, C, H, W) channels-last.
    """
    scattered: Tensor = _ScatterRows.apply(values, rows, row_of, shape)  # type: ignore[no-untyped-call]
    return scattered


def row_indices(positions: Tensor) -> Tensor:
    """Rows of the True positions of a (B, 1, H, W) bool map, (N,) int64 ascending."""
    return positions.flatten().nonzero().squeeze(1)


def row_of(positions: Tensor) -> Tensor:
    """Where each position of a (B, 1, H, W) bool map is in `row_indices`, (B x H x W,) int64; False ones behind all."""
    counts = positions.flatten().cumsum(0)
    return torch.where(positions.flatten(), counts - 1, counts[-1])


def pad_rows(features: Tensor, plan: list[RingRows], *, detach_padding: bool = True) -> Tensor:
    """`functional.neighbour_padding`, leaving hidden positions beyond the last ring as they are.

    Values at hidden positions mean nothing, so with detached padding channels-last features are filled where they lie:
    `features` itself changes at hidden positions, and nothing is copied. Backward passes of earlier operations read
    these positions only together with a gradient of 0.

    Args:
        features: (B, C, H, W) float; read at visible positions only.
        plan: from `morphology.ring_rows`.
        detach_padding: filled values carry no gradient.

    Returns:
        (B, C, H, W) channels-last, dtype of `features`.
    """
    if not plan:
        return features
    if detach_padding and not torch.is_grad_enabled():
        return _padded_in_place(features, plan)
    if detach_padding:
        padded: Tensor = _PadRows.apply(features, plan)  # type: ignore[no-untyped-call]
        return padded
    rows = to_rows(features)
    for ring in plan:
        rows = rows.index_copy(0, ring.rows, weighted_sum(rows, ring))
    return rows.reshape(features.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2)


def zero_rows(features: Tensor, rows: Tensor) -> Tensor:
    """0 at some rows; channels-last features that no gradient is asked of are changed where they lie.

    Args:
        features: (B, C, H, W) float.
        rows: (N,) int64.

    Returns:
        (B, C, H, W) channels-last.
    """
    if torch.is_grad_enabled() or not features.is_contiguous(memory_format=torch.channels_last):
        features = features.clone(memory_format=torch.channels_last)
    _set_rows(to_rows(features), rows, None)
    return features


class _GatherRows(torch.autograd.Function):
    """Forward a copy of rows; backward a map that is copied from them, which no row needs to be added to."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, rows: Tensor, row_of: Tensor) -> Tensor:
        ctx.row_of, ctx.shape = row_of, features.shape
        return to_rows(features).index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _map_of_rows(gradients[0], ctx.row_of, ctx.shape), None, None


class _ScatterRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, rows: Tensor, row_of: Tensor, shape: torch.Size) -> Tensor:
        ctx.rows = rows
        return _map_of_rows(values, row_of, shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        return to_rows(gradients[0]).index_select(0, ctx.rows), None, None, None


class _PadRows(torch.autograd.Function):
    """Neighbour padding whose filled rows carry no gradient."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, plan: list[RingRows]) -> Tensor:
        ctx.plan = plan
        # Through `data`, for autograd would otherwise refuse the changed values at positions that it multiplies by 0.
        padded = _padded_in_place(features.data, plan)
        return features.view_as(features) if padded.data_ptr() == features.data_ptr() else padded

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = gradients[0].clone(memory_format=torch.channels_last)
        for ring in ctx.plan:
            _set_rows(to_rows(gradient), ring.rows, None)
        return gradient, None


def _map_of_rows(values: Tensor, row_of: Tensor, shape: torch.Size) -> Tensor:
    """Hidden positions take a row of zeros after the last."""
    features = torch.empty(shape, dtype=values.dtype, device=values.device, memory_format=torch.channels_last)
    torch.index_select(F.pad(values, (0, 0, 0, 1)), 0, row_of, out=to_rows(features))
    return features


def weighted_sum(rows: Tensor, ring: RingRows) -> Tensor:
    """What a ring is filled with, (N, C), from rows (., C)."""
    weights = ring.weights.to(rows.dtype)
    return F.embedding_bag(ring.neighbours, rows, ring.starts, mode="sum", per_sample_weights=weights)


def _padded_in_place(features: Tensor, plan: list[RingRows]) -> Tensor:
    if not features.is_contiguous(memory_format=torch.channels_last):
        features = features.clone(memory_format=torch.channels_last)
    rows = to_rows(features)
    for ring in plan:
        _set_rows(rows, ring.rows, weighted_sum(rows, ring))
    return features


_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def _set_rows(rows: Tensor, indices: Tensor, values: Tensor | None) -> None:
    """Rows become `values`, or 0; on a CPU by NumPy, which copies row by row where torch goes column by column."""
    if rows.device.type == "cpu":
        bits = _BITS[rows.element_size()]
        new = 0 if values is None else values.detach().view(bits).numpy()
        rows.detach().view(bits).numpy()[indices.numpy()] = new
    elif values is None:
        rows.index_fill_(0, indices, 0.0)
    else:
        rows.index_copy_(0, indices, values)
