"""Holes that test the leak on real photographs: with a margin, with another ring, and with another object's outline."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from maskrobust.augment import SilhouetteBank, circle_geometry, companion_blobs, enclosing_circles, fold_in, uniform
from maskrobust.augment.families.silhouettes import check_mask_size
from maskrobust.lm_modules.reliance.arrays import BoolArray, FloatArray, IntArray

_STEPS = 8


def dilate(object_mask: Tensor, margin: float) -> Tensor:
    """Every pixel whose centre is at most `margin` pixels from that of a pixel of the object.

    Args:
        object_mask: (B, 1, H, W) bool.
        margin: at least 0; 0 leaves the object as it is.

    Returns:
        (B, 1, H, W) bool on the device of `object_mask`; empty where there is no object.
    """
    if margin == 0:
        return object_mask
    near = np.stack([_distances(~pixels) <= margin for pixels in object_mask[:, 0].cpu().numpy()])
    grown = torch.from_numpy(near).unsqueeze(1).to(object_mask.device)
    return grown & object_mask.flatten(1).any(dim=1)[:, None, None, None]


def with_other_ring(images: Tensor, object_mask: Tensor) -> Tensor:
    """Images whose ring between the object's outline and its enclosing circle is drawn from outside the circle.

    The ring takes the image rolled by half the height and half the width; where that shows the circle, too, it takes
    the nearest pixel outside. So it shows nothing that is not to be seen outside the circle as well.

    Args:
        images: (B, C, H, W).
        object_mask: (B, 1, H, W) bool.

    Returns:
        (B, C, H, W), dtype of `images`; equal outside the ring.
    """
    circles = enclosing_circles(object_mask)
    half = (images.shape[2] // 2, images.shape[3] // 2)
    nearest = torch.from_numpy(np.stack([_nearest_outside(circle) for circle in circles[:, 0].cpu().numpy()]))
    place = nearest.to(images.device).flatten(1).unsqueeze(1).expand(-1, images.shape[1], -1)
    continued = images.flatten(2).gather(2, place).reshape(images.shape)
    content = torch.where(circles.roll(half, dims=(2, 3)), continued, images.roll(half, dims=(2, 3)))
    return torch.where(circles & ~object_mask, content, images)


class CoverHoles(NamedTuple):
    """Two holes that hide the whole object and the same number of pixels, of which one has another object's outline.

    Attributes:
        cover_visible: (B, 1, H, W) bool, hides another object's silhouette that covers this one, and a blob where the
            circle is larger.
        circle_visible: (B, 1, H, W) bool, hides this object's enclosing circle, and a blob where the cover is larger.
        valid: (B,) bool, False where there is no object or no room for the blob; nothing is hidden there.
    """

    cover_visible: Tensor
    circle_visible: Tensor
    valid: Tensor


class CoverIndex(NamedTuple):
    """A silhouette bank with the place at which each object is thickest.

    Attributes:
        object_masks: (N, 1, H, W) bool.
        ids: (N,) int64.
        centres: (N, 2) int64, row and column of the pixel that is farthest from what is outside the object.
        depths: (N,) float64, its distance from there in pixels.
    """

    object_masks: Tensor
    ids: Tensor
    centres: Tensor
    depths: Tensor


def cover_index(bank: SilhouetteBank) -> CoverIndex:
    """Prepare a bank; the result is on its device."""
    device, width = bank.ids.device, bank.object_masks.shape[3]
    thickest = [_thickest(mask) for mask in bank.object_masks[:, 0].cpu().numpy()]
    place = torch.tensor([place for place, _ in thickest], device=device)
    depths = torch.tensor([depth for _, depth in thickest], dtype=torch.float64, device=device)
    return CoverIndex(bank.object_masks, bank.ids, torch.stack([place // width, place % width], dim=1), depths)


def cover_holes(keys: Tensor, object_mask: Tensor, ids: Tensor, *, index: CoverIndex) -> CoverHoles:
    """Hide each object behind the silhouette of another one, drawn uniformly whatever its class.

    The drawn object's thickest place is put on the centre of the enclosing circle, and scaled by the smallest of eight
    factors, in even ratios, with which it covers the object; with the last its inscribed circle covers the enclosing
    one. A blob makes up for the difference of the areas, beside the smaller of the two holes.

    Args:
        keys: (B,) int64 keys.
        object_mask: (B, 1, H, W) bool.
        ids: (B,) int64; the sample's own object is not drawn, where the bank has another.
        index: the prepared bank, on the device of `keys`.

    Raises:
        InputError: the bank's masks have another size.
    """
    check_mask_size(index.object_masks, *object_mask.shape[2:])
    drawn = (uniform(fold_in(keys, 0)).double() * len(index.ids)).long()
    drawn = torch.where(index.ids[drawn] == ids, (drawn + 1) % len(index.ids), drawn)
    covers, circles = _covers(object_mask, drawn, index), enclosing_circles(object_mask)
    excess = covers.sum(dim=(1, 2, 3)) - circles.sum(dim=(1, 2, 3))
    beside_cover = companion_blobs(fold_in(keys, 1), covers, (-excess).clamp(min=0))
    beside_circle = companion_blobs(fold_in(keys, 2), circles, excess.clamp(min=0))
    valid = object_mask.flatten(1).any(dim=1) & beside_cover.fits & beside_circle.fits
    nothing_hidden = ~valid[:, None, None, None]
    return CoverHoles(
        ~(covers | beside_cover.blobs) | nothing_hidden, ~(circles | beside_circle.blobs) | nothing_hidden, valid
    )


def _covers(object_mask: Tensor, drawn: Tensor, index: CoverIndex) -> Tensor:
    """Silhouettes (B, 1, H, W) of the drawn objects (B,), placed and scaled so that they cover the objects."""
    centres, radii = (each.to(drawn.device) for each in circle_geometry(object_mask))
    masks = index.object_masks[drawn]
    areas = object_mask.sum(dim=(1, 2, 3)).clamp(min=1) / masks.sum(dim=(1, 2, 3))
    largest = (radii.nan_to_num(0.0) + 1.0) / (index.depths[drawn] - 1.0).clamp(min=0.5)
    smallest = torch.minimum(areas.double().sqrt(), largest)
    found = torch.zeros_like(object_mask)
    is_found = torch.zeros_like(drawn, dtype=torch.bool)
    for step in range(_STEPS):
        scales = smallest * (largest / smallest) ** (step / (_STEPS - 1))
        scaled = _scaled(masks, index.centres[drawn], centres, scales)
        covering = ~(object_mask & ~scaled).flatten(1).any(dim=1)
        found = torch.where((covering & ~is_found)[:, None, None, None], scaled, found)
        is_found = is_found | covering
    return found


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


def _thickest(mask: BoolArray) -> tuple[int, float]:
    """Position in the flattened mask (H, W) farthest from what is outside the object, and its distance from there."""
    depths = _distances(np.pad(mask, 1))[1:-1, 1:-1]
    return int(depths.argmax()), float(depths.max())


def _distances(pixels: BoolArray) -> FloatArray:
    """Distance (H, W) of each True pixel to the nearest False one, 0 where False."""
    import cv2

    return np.asarray(cv2.distanceTransform(pixels.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float64)


def _nearest_outside(circle: BoolArray) -> IntArray:
    """Position in the flattened image of the False pixel nearest to each, (H, W)."""
    from scipy import ndimage

    rows, columns = ndimage.distance_transform_edt(circle, return_distances=False, return_indices=True)
    nearest: IntArray = np.asarray(rows, dtype=np.int64) * circle.shape[1] + columns
    return nearest
