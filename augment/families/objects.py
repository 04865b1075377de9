"""Holes made from the sample's own object. An image without an object keeps every pixel visible."""

from torch import Tensor

from augment.batch import check_object_mask
from augment.families.blobs import companion_blobs
from augment.families.circles import enclosing_circles


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
    check_object_mask(object_mask)
    missing_pixels = (enclosing_circles(object_mask) & ~object_mask).sum(dim=(1, 2, 3))
    beside, fits = companion_blobs(keys, object_mask, missing_pixels)
    return ~((object_mask | beside) & fits[:, None, None, None])
