"""Holes made from the sample's own object. An image without an object keeps every pixel visible."""

from typing import NamedTuple

import torch
from torch import Tensor

from maskrobust.augment.batch import check_object_mask
from maskrobust.augment.families.registry import mask_family
from maskrobust.augment.families.shapes.bank import SilhouetteBank
from maskrobust.augment.families.shapes.circles import circle_geometry, enclosing_circles
from maskrobust.augment.families.shapes.companions import companion_blobs
from maskrobust.augment.families.shapes.silhouettes import (
    bounds,
    check_mask_size,
    draw_outside,
    own_ranks,
    resampled,
    source_places,
)
from maskrobust.augment.random import fold_in

_STEPS = 8


@mask_family("covers")
def covers(keys: Tensor, object_mask: Tensor, ids: Tensor, *, bank: SilhouetteBank) -> Tensor:
    """Hide each object behind the silhouette of another one, drawn uniformly whatever its class.

    The drawn object's thickest place is put on the centre of the enclosing circle, and scaled by the smallest of eight
    factors, in even ratios, with which it covers the object; with the last its inscribed circle covers the enclosing
    one. The outline of the hole tells nothing of the object but its size. Without an object, or another one to draw,
    nothing is hidden.

    Args:
        keys: (B,) int64 keys.
        object_mask: (B, 1, H, W) bool, True on the object.
        ids: (B,) int64 sample ids; the sample's own object is never drawn, whichever sample shows it.
        bank: the objects to draw from, on the device of `keys`.

    Returns:
        `visible`, (B, 1, H, W) bool.

    Raises:
        InputError: the bank's masks have another size.
    """
    check_mask_size(bank.object_masks, *object_mask.shape[2:])
    start, end = torch.zeros_like(ids), torch.full_like(ids, len(bank))
    own = bounds(bank.object_ranks[bank.by_object], own_ranks(bank, ids))
    drawn = draw_outside(fold_in(keys, 0), start, end, *own)
    hidden = _covers(object_mask, bank.by_object[drawn.clamp(max=len(bank) - 1)], bank)
    return ~hidden | (drawn == end)[:, None, None, None]


def _covers(object_mask: Tensor, drawn: Tensor, bank: SilhouetteBank) -> Tensor:
    """Silhouettes (B, 1, H, W) of the drawn objects (B,), placed and scaled so that they cover the objects."""
    centres, radii = (each.to(drawn.device) for each in circle_geometry(object_mask))
    masks, (middles, depths) = bank.object_masks[drawn], bank.thickest
    areas = object_mask.sum(dim=(1, 2, 3)).clamp(min=1) / masks.sum(dim=(1, 2, 3))
    largest = (radii.nan_to_num(0.0) + 1.0) / (depths[drawn] - 1.0).clamp(min=0.5)
    smallest = torch.minimum(areas.double().sqrt(), largest)
    found = torch.zeros_like(object_mask)
    is_found = torch.zeros_like(drawn, dtype=torch.bool)
    for step in range(_STEPS):
        scales = smallest * (largest / smallest) ** (step / (_STEPS - 1))
        scaled = resampled(
            masks,
            *(
                source_places(size, middles[drawn, axis], centres[:, axis], scales)
                for axis, size in enumerate(masks.shape[2:])
            ),
        )
        covering = ~(object_mask & ~scaled).flatten(1).any(dim=1)
        found = torch.where((covering & ~is_found)[:, None, None, None], scaled, found)
        is_found = is_found | covering
    return found & object_mask.flatten(1).any(dim=1)[:, None, None, None]


class ObjectHoles(NamedTuple):
    """Two holes that hide the whole object and the same number of pixels, of which one keeps its outline.

    Attributes:
        silhouette_visible: (B, 1, H, W) bool, hides the object along its outline, and a companion blob elsewhere.
        circle_visible: (B, 1, H, W) bool, hides the object's smallest enclosing circle.
        valid: (B,) bool, False where there is no object or no room for the blob; nothing is hidden there.
    """

    silhouette_visible: Tensor
    circle_visible: Tensor
    valid: Tensor


@mask_family("objects")
def objects(object_mask: Tensor) -> Tensor:
    """Hide each object exactly along its outline.

    Args:
        object_mask: (B, 1, H, W) bool, True on the object.

    Returns:
        `visible`, (B, 1, H, W) bool.

    Raises:
        TypeError: `object_mask` is not boolean.
    """
    check_object_mask(object_mask)
    return ~object_mask


@mask_family("broken_silhouettes")
def broken_silhouettes(object_mask: Tensor) -> Tensor:
    """Hide the object's silhouette rolled by half the height and half the width, which swaps the image's quadrants.

    The hidden area is exactly the object's, but its outline is broken. Source: Balasubramanian and Feizi,
    arXiv 2211.14646, the broken masks of the test for mask shape.

    Args:
        object_mask: (B, 1, H, W) bool, True on the object.

    Returns:
        `visible`, (B, 1, H, W) bool.

    Raises:
        TypeError: `object_mask` is not boolean.
    """
    check_object_mask(object_mask)
    height, width = object_mask.shape[2:]
    return ~object_mask.roll((height // 2, width // 2), dims=(2, 3))


def object_holes(keys: Tensor, object_mask: Tensor) -> ObjectHoles:
    """Hide each object along its outline with a blob elsewhere, and by its enclosing circle.

    With o the object and c its enclosing disc, the blob has |c| - |o| pixels: both holes hide |c| pixels.

    Args:
        keys: (B,) int64 keys.
        object_mask: (B, 1, H, W) bool, True on the object.

    Returns:
        Both holes, and where they are valid.

    Raises:
        TypeError: `object_mask` is not boolean.
    """
    circles = enclosing_circles(object_mask)
    blobs, fits = companion_blobs(keys, object_mask, (circles & ~object_mask).sum(dim=(1, 2, 3)))
    valid = fits & object_mask.flatten(1).any(dim=1)
    nothing_hidden = ~valid[:, None, None, None]
    return ObjectHoles(~(object_mask | blobs) | nothing_hidden, ~circles | nothing_hidden, valid)


@mask_family("companions")
def companions(keys: Tensor, object_mask: Tensor) -> Tensor:
    """Hide each object along its outline, and beside it a blob: together as many pixels as its enclosing circle.

    Nothing is hidden where there is no object, or no room for the blob.

    Args:
        keys: (B,) int64 keys.
        object_mask: (B, 1, H, W) bool, True on the object.

    Returns:
        `visible`, (B, 1, H, W) bool.

    Raises:
        TypeError: `object_mask` is not boolean.
    """
    return object_holes(keys, object_mask).silhouette_visible
