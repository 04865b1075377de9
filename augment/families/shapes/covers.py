"""Decoys: each object hidden behind the silhouette of another one."""

import torch
from torch import Tensor

from maskrobust.augment.families.registry import mask_family
from maskrobust.augment.families.shapes.bank import SilhouetteBank
from maskrobust.augment.families.shapes.circles import circle_geometry
from maskrobust.augment.families.shapes.silhouettes import bounds, check_mask_size, draw_outside, own_ranks
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
        scaled = _scaled(masks, middles[drawn], centres, scales)
        covering = ~(object_mask & ~scaled).flatten(1).any(dim=1)
        found = torch.where((covering & ~is_found)[:, None, None, None], scaled, found)
        is_found = is_found | covering
    return found & object_mask.flatten(1).any(dim=1)[:, None, None, None]


def _scaled(masks: Tensor, source: Tensor, target: Tensor, scales: Tensor) -> Tensor:
    """Masks (B, 1, H, W) scaled (B,) by the nearest pixel, so that the place `source` (B, 2) comes to `target`."""
    places, inside = [], []
    for axis in (0, 1):
        size = masks.shape[2 + axis]
        offsets = torch.arange(size, device=masks.device) - target[:, axis, None]
        place = (offsets / scales[:, None]).round().long() + source[:, axis, None]
        places.append(place.clamp(0, size - 1))
        inside.append((place >= 0) & (place < size))
    sample = torch.arange(len(masks), device=masks.device)[:, None, None]
    found = masks[sample, 0, places[0][:, :, None], places[1][:, None, :]]
    return (found & inside[0][:, :, None] & inside[1][:, None, :]).unsqueeze(1)
