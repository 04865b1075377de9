"""The same layer masking on rows: features as (B x H x W, C), touching only the positions that need it.

In channels-last memory a feature map is a matrix with one row for each position, and picking rows is a plain copy.
Where hidden positions touch visible ones is a thin line, so padding only these rows costs far less than padding
everywhere. The number of such rows depends on the mask, which `torch.compile` cannot trace; there `functional` is used
instead.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from maskrobust.lm_modules.masking.functional import dilate_3x3


@dataclass(frozen=True)
class RingRows:
    """One ring of neighbour padding.

    Attributes:
        rows: (N,) int64, the rows that the ring fills.
        neighbours: (N, 9) int64, the rows of each one's 3x3 neighbours; in place of an unknown one, a known one's.
        weights: (N, 9) float32, one over the number of known neighbours, 0 for unknown ones.
    """

    rows: Tensor
    neighbours: Tensor
    weights: Tensor


def to_rows(features: Tensor) -> Tensor:
    """(B, C, H, W) as (B x H x W, C); a view where the features are channels-last, else a copy."""
    return features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])


def gather_rows(features: Tensor, rows: Tensor) -> Tensor:
    """Some rows of a feature map.

    Args:
        features: (B, C, H, W).
        rows: (N,) int64, each at most once.

    Returns:
        (N, C).
    """
    gathered: Tensor = _GatherRows.apply(features, rows)  # type: ignore[no-untyped-call]
    return gathered


def scatter_rows(values: Tensor, rows: Tensor, shape: torch.Size) -> Tensor:
    """A feature map with given rows, and 0 elsewhere.

    Args:
        values: (N, C).
        rows: (N,) int64, each at most once.
        shape: (B, C, H, W) of the result.

    Returns:
        (B, C, H, W) channels-last.
    """
    scattered: Tensor = _ScatterRows.apply(values, rows, shape)  # type: ignore[no-untyped-call]
    return scattered


def row_indices(positions: Tensor) -> Tensor:
    """Rows of the True positions of a (B, 1, H, W) bool map, (N,) int64 ascending."""
    return positions.flatten().nonzero().squeeze(1)


def ring_rows(visible: Tensor, rings: int) -> list[RingRows]:
    """The plan of `functional.neighbour_rings`, as rows.

    Args:
        visible: (B, 1, H, W) bool.
        rings: number of rings; the plan ends early where nothing is left to fill.
    """
    _, _, height, width = visible.shape
    plan = []
    known = visible
    for _ in range(rings):
        reached = dilate_3x3(known)
        rows = row_indices(reached & ~known)
        if len(rows) == 0:
            break
        neighbours, is_known = _neighbours(rows, known, height, width)
        plan.append(RingRows(rows, neighbours, is_known / is_known.sum(dim=1, keepdim=True)))
        known = reached
    return plan


def pad_rows(features: Tensor, plan: list[RingRows], *, detach_padding: bool = True) -> Tensor:
    """`functional.neighbour_padding`, leaving hidden positions beyond the last ring as they are.

    Values at hidden positions mean nothing, so with detached padding channels-last features are filled where they lie:
    `features` itself changes at hidden positions, and nothing is copied. Backward passes of earlier operations read
    these positions only together with a gradient of 0.

    Args:
        features: (B, C, H, W) float; read at visible positions only.
        plan: from `ring_rows`.
        detach_padding: filled values carry no gradient.

    Returns:
        (B, C, H, W) channels-last, dtype of `features`.
    """
    if not plan:
        return features
    if detach_padding:
        padded: Tensor = _PadRows.apply(features, plan)  # type: ignore[no-untyped-call]
        return padded
    rows = to_rows(features)
    for ring in plan:
        rows = rows.index_copy(0, ring.rows, _weighted_sum(rows, ring))
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
    to_rows(features).index_fill_(0, rows, 0.0)
    return features


class _GatherRows(torch.autograd.Function):
    """Forward a copy of rows; backward a copy to a map of zeros, which no row needs to be added to."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, rows: Tensor) -> Tensor:
        ctx.rows, ctx.shape = rows, features.shape
        return to_rows(features).index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _map_of_rows(gradients[0], ctx.rows, ctx.shape), None


class _ScatterRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, rows: Tensor, shape: torch.Size) -> Tensor:
        ctx.rows = rows
        return _map_of_rows(values, rows, shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return to_rows(gradients[0]).index_select(0, ctx.rows), None, None


class _PadRows(torch.autograd.Function):
    """Neighbour padding whose filled rows carry no gradient."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, plan: list[RingRows]) -> Tensor:
        in_place = features.is_contiguous(memory_format=torch.channels_last)
        # Through `data`, for autograd would otherwise refuse the changed values at positions that it multiplies by 0.
        padded = features.data if in_place else features.clone(memory_format=torch.channels_last)
        rows = to_rows(padded)
        for ring in plan:
            rows.index_copy_(0, ring.rows, _weighted_sum(rows, ring))
        ctx.plan = plan
        return features.view_as(features) if in_place else padded

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = gradients[0].clone(memory_format=torch.channels_last)
        for ring in ctx.plan:
            to_rows(gradient).index_fill_(0, ring.rows, 0.0)
        return gradient, None


def _map_of_rows(values: Tensor, rows: Tensor, shape: torch.Size) -> Tensor:
    features = torch.empty(shape, dtype=values.dtype, device=values.device, memory_format=torch.channels_last).zero_()
    to_rows(features).index_copy_(0, rows, values)
    return features


def _weighted_sum(rows: Tensor, ring: RingRows) -> Tensor:
    return F.embedding_bag(ring.neighbours, rows, per_sample_weights=ring.weights.to(rows.dtype), mode="sum")


def _neighbours(rows: Tensor, known: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Rows of the 3x3 neighbours of some rows, and whether each is known; the first known stands in for the unknown."""
    image, place = rows // (height * width), rows % (height * width)
    framed_rows = image * (height + 2) * (width + 2) + (place // width + 1) * (width + 2) + place % width + 1
    steps = torch.arange(-1, 2, device=rows.device)
    framed_offsets = (steps[:, None] * (width + 2) + steps).flatten()
    is_known = F.pad(known, (1, 1, 1, 1)).flatten()[framed_rows[:, None] + framed_offsets]
    neighbours = rows[:, None] + (steps[:, None] * width + steps).flatten()
    first_known = neighbours.gather(1, is_known.to(torch.uint8).argmax(dim=1, keepdim=True))
    return torch.where(is_known, neighbours, first_known), is_known
