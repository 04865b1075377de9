"""Holes that test the leak on real photographs: with a margin, with another ring, and with another object's outline."""

import numpy as np
import torch
from torch import Tensor

from maskrobust.augment import ObjectHoles, SilhouetteBank, companion_blobs, covers, enclosing_circles, fold_in
from maskrobust.augment.families.shapes.bank import distances
from maskrobust.lm_modules.reliance.arrays import BoolArray, IntArray


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
    near = np.stack([distances(~pixels) <= margin for pixels in object_mask[:, 0].cpu().numpy()])
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


def cover_holes(keys: Tensor, object_mask: Tensor, ids: Tensor, *, bank: SilhouetteBank) -> ObjectHoles:
    """Hide each object behind the silhouette of another one (`augment.covers`), and by its enclosing circle.

    A blob makes up for the difference of the areas, beside the smaller of the two holes.

    Args:
        keys: (B,) int64 keys.
        object_mask: (B, 1, H, W) bool.
        ids: (B,) int64; the sample's own object is never drawn, whichever sample shows it.
        bank: the objects to draw from, on the device of `keys`.

    Returns:
        As silhouette, another object's that covers this one, and a blob where the circle is larger; as circle, that of
        this object, and a blob where the cover is larger. Valid where there is an object, another one to draw, and
        room for the blob.

    Raises:
        InputError: the bank's masks have another size.
    """
    hidden, circles = ~covers(keys, object_mask, ids, bank=bank), enclosing_circles(object_mask)
    excess = hidden.sum(dim=(1, 2, 3)) - circles.sum(dim=(1, 2, 3))
    beside_cover = companion_blobs(fold_in(keys, 1), hidden, (-excess).clamp(min=0))
    beside_circle = companion_blobs(fold_in(keys, 2), circles, excess.clamp(min=0))
    valid = hidden.flatten(1).any(dim=1) & beside_cover.fits & beside_circle.fits
    nothing_hidden = ~valid[:, None, None, None]
    return ObjectHoles(
        ~(hidden | beside_cover.blobs) | nothing_hidden, ~(circles | beside_circle.blobs) | nothing_hidden, valid
    )


def _nearest_outside(circle: BoolArray) -> IntArray:
    """Position in the flattened image of the False pixel nearest to each, (H, W)."""
    from scipy import ndimage

    rows, columns = ndimage.distance_transform_edt(circle, return_distances=False, return_indices=True)
    nearest: IntArray = np.asarray(rows, dtype=np.int64) * circle.shape[1] + columns
    return nearest
