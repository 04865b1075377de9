"""Holes made from the sample's own object. An image without an object keeps every pixel visible."""

from typing import NamedTuple

from torch import Tensor

from maskrobust.augment.batch import check_object_mask
from maskrobust.augment.families.registry import mask_family
from maskrobust.augment.families.shapes.circles import enclosing_circles
from maskrobust.augment.families.shapes.companions import companion_blobs


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
