"""The same layer masking on rows: features as (B x H x W, C), touching only the positions that need it.

In channels-last memory a feature map is a matrix with one row for each position, and picking rows is a plain copy.
Where hidden positions touch visible ones is a thin line, so padding only these rows costs far less than padding
everywhere. The number of such rows depends on the mask, which `torch.compile` cannot trace; there `functional` is used
instead.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lm_modules.masking.functional import neighbour_rings


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


def from_rows(rows: Tensor, shape: torch.Size) -> Tensor:
    """(B x H x W, C) as a channels-last view of `shape` with its second axis replaced by C."""
    return rows.reshape(shape[0], shape[2], shape[3], rows.shape[1]).permute(0, 3, 1, 2)


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
    for ring, weight in neighbour_rings(visible, rings):
        rows = row_indices(ring)
        if len(rows) == 0:
            break
        neighbours, is_known = _neighbours(rows, known, height, width)
        plan.append(RingRows(rows, neighbours, is_known * weight.flatten()[rows, None]))
        known = known | ring
    return plan


def pad_rows(features: Tensor, plan: list[RingRows], *, detach_padding: bool = True) -> Tensor:
    """`functional.neighbour_padding`, leaving hidden positions beyond the last ring as they are.

    Args:
        features: (B, C, H, W) float; read at visible positions only.
        plan: from `ring_rows`.
        detach_padding: filled values carry no gradient.

    Returns:
        (B, C, H, W) channels-last, dtype of `features`.
    """
    if not plan:
        return features
    rows = to_rows(features)
    if not detach_padding:
        for ring in plan:
            rows = rows.index_copy(0, ring.rows, _weighted_sum(rows, ring))
        return from_rows(rows, features.shape)
    with torch.no_grad():
        padded = rows.clone()
        for ring in plan:
            padded.index_copy_(0, ring.rows, _weighted_sum(padded, ring))
    if not (torch.is_grad_enabled() and features.requires_grad):
        return from_rows(padded, features.shape)
    filled = torch.cat([ring.rows for ring in plan])
    return from_rows(rows.index_copy(0, filled, padded[filled]), features.shape)


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
