"""The holes of retention curves: segments of the image, hidden one after the other.

Source: Balasubramanian and Feizi, arXiv 2211.14646, after Jain et al., "Missingness bias in model debugging" (ICLR
2022).
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, assert_never, get_args

import torch
from torch import Tensor

from maskrobust.augment import (
    Batch,
    check_object_mask,
    hide_in_order,
    patch_segments,
    random_order,
    segment_batch,
    segment_sums,
)
from maskrobust.errors import check_within

CurveFamily = Literal["patches", "slic", "quickshift"]
CURVE_FAMILIES: tuple[CurveFamily, ...] = get_args(CurveFamily)

CurveOrder = Literal["random", "most_salient", "least_salient"]
CURVE_ORDERS: tuple[CurveOrder, ...] = get_args(CurveOrder)


class CurveHoles(NamedTuple):
    """The holes along one curve; a smaller one lies within a larger one.

    Attributes:
        visible: for each hidden fraction what is visible, (B, 1, H, W) bool.
        valid: (B,) bool, False where the order is one of saliency and there is no object; nothing is hidden there.
    """

    visible: tuple[Tensor, ...]
    valid: Tensor


def curve_condition(family: CurveFamily, order: CurveOrder, hidden_fraction: float) -> str:
    """The condition's name in `Outcomes`, for example "curve/slic/most_salient/0.3"."""
    return f"curve/{family}/{order}/{hidden_fraction:g}"


def curve_holes(
    keys: Tensor,
    batch: Batch,
    *,
    family: CurveFamily,
    order: CurveOrder,
    hidden_fractions: Sequence[float],
    patch_size: int = 16,
) -> CurveHoles:
    """Hide segments in an order, each image by itself: its holes depend on its key, id, pixels and object alone.

    The hidden fraction is exact to half of the segment at which the order is cut; see `augment.hide_in_order`.

    Args:
        keys: (B,) int64 keys. One key gives one random order, in which segments that are equally salient follow each
            other, too.
        batch: annotated images of 1 or 3 channels.
        family: what the segments are: square patches, or superpixels; see `maskrobust.augment.families.superpixels`.
        order: "random"; or by saliency, the fraction of a segment's pixels that lie on the object (the paper's code
            takes their number, which puts large segments first).
        hidden_fractions: fractions of pixels in [0, 1].
        patch_size: side of a patch in pixels, at least 1.

    Raises:
        TypeError: the object mask is not boolean.
        InputError: a fraction leaves [0, 1], patch_size < 1, or images have neither 1 nor 3 channels.
    """
    check_within("[0, 1]", "hidden_fractions", *hidden_fractions)
    check_object_mask(batch.object_mask)
    segments = _segments(batch, family, patch_size)
    fractions = torch.tensor(hidden_fractions, dtype=torch.float64, device=keys.device)[:, None].expand(-1, len(keys))
    visible = hide_in_order(segments, _ordered(keys, batch, segments, order), fractions)
    valid = batch.object_mask.flatten(1).any(dim=1) | (order == "random")
    return CurveHoles((visible | ~valid[:, None, None, None]).unbind(), valid)


def _segments(batch: Batch, family: CurveFamily, patch_size: int) -> Tensor:
    """(B, H, W) integers from 0."""
    match family:
        case "patches":
            height, width = batch.images.shape[2:]
            grid = patch_segments(height, width, patch_size).to(batch.images.device)
            return grid.expand(len(batch.images), -1, -1)
        case "slic" | "quickshift":
            return segment_batch(batch, family)
        case _:
            assert_never(family)


def _ordered(keys: Tensor, batch: Batch, segments: Tensor, order: CurveOrder) -> Tensor:
    """(B, S) int64, the segments in the order in which they are hidden."""
    shuffled = random_order(keys, segments)
    if order == "random":
        return shuffled
    count = shuffled.shape[1]
    sizes = segment_sums(segments, torch.ones_like(segments), count).clamp(min=1)
    saliency = segment_sums(segments, batch.object_mask.squeeze(1), count).double() / sizes
    ranking = saliency.gather(1, shuffled).argsort(dim=1, descending=order == "most_salient", stable=True)
    return shuffled.gather(1, ranking)
