"""Smallest enclosing circles: holes that remove the whole object and keep nothing of its outline."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskrobust.augment.batch import check_object_mask
from maskrobust.augment.families.registry import mask_family


def enclosing_circles(object_mask: Tensor) -> Tensor:
    """The disc of the smallest enclosing circle of each object, cut off at the image border.

    The centre c is that of `cv2.minEnclosingCircle` over the object's pixel centres; the disc holds every pixel whose
    distance to c does not exceed that of the farthest object pixel, so it covers the object whatever the rounding of c.

    Args:
        object_mask: (B, 1, H, W) bool, True on the object.

    Returns:
        Hidden pixels, (B, 1, H, W) bool on the device of `object_mask`: True inside the disc, all False where there is
        no object.

    Raises:
        TypeError: `object_mask` is not boolean.
    """
    _, squared_distance, farthest = _fit(object_mask)
    discs = squared_distance <= farthest[:, None, None]
    return torch.from_numpy(discs).unsqueeze(1).to(object_mask.device)


def circle_geometry(object_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Where the smallest enclosing circle of each object lies, and how large it is.

    Args:
        object_mask: (B, 1, H, W) bool, True on the object.

    Returns:
        The centres (B, 2) float64, row then column in pixels, and the radii (B,) float64: the distance from the centre
        to that of the farthest object pixel. Both are on the CPU. The radius is NaN where there is no object.

    Raises:
        TypeError: `object_mask` is not boolean.
    """
    centres, _, farthest = _fit(object_mask)
    radii = np.sqrt(np.where(farthest < 0.0, np.nan, farthest))
    return torch.from_numpy(centres[:, ::-1].copy()), torch.from_numpy(radii)


def circles_of_equal_area(object_mask: Tensor) -> Tensor:
    """The pixels nearest to the centroid of each object, as many as the object has: a disc, cut off at the border.

    Args:
        object_mask: (B, 1, H, W) bool, True on the object.

    Returns:
        Hidden pixels, (B, 1, H, W) bool on the device of `object_mask`, all False where there is no object.

    Raises:
        TypeError: `object_mask` is not boolean.
    """
    check_object_mask(object_mask)
    size, _, height, width = object_mask.shape
    flat = object_mask.reshape(size, -1).double()
    places = torch.cartesian_prod(torch.arange(height), torch.arange(width)).to(flat)
    areas = flat.sum(dim=1, keepdim=True)
    centroids = flat @ places / areas.clamp(min=1)
    distances = (places - centroids[:, None]).square().sum(dim=2)
    ranks = distances.argsort(dim=1, stable=True).argsort(dim=1)
    return (ranks < areas).reshape(object_mask.shape)


@mask_family("enclosing_circles")
def hide_enclosing_circles(object_mask: Tensor) -> Tensor:
    """Hide the disc of the smallest enclosing circle of each object.

    Args:
        object_mask: (B, 1, H, W) bool, True on the object.

    Returns:
        `visible`, (B, 1, H, W) bool, the inverse of `enclosing_circles`.

    Raises:
        TypeError: `object_mask` is not boolean.
    """
    return ~enclosing_circles(object_mask)


def _fit(object_mask: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Centres (B, 2) as x and y, squared distances (B, H, W) from them, and that (B,) of the farthest object pixel."""
    check_object_mask(object_mask)
    objects = object_mask.squeeze(1).cpu().numpy()
    _, height, width = objects.shape
    centres = np.array([_centre(pixels) for pixels in objects], dtype=np.float64).reshape(-1, 2)
    across = np.arange(width) - centres[:, None, 0, None]
    down = np.arange(height)[:, None] - centres[:, None, 1, None]
    squared_distance = across * across + down * down
    farthest = np.where(objects, squared_distance, -1.0).max(axis=(1, 2))
    return centres, squared_distance, farthest


def _centre(pixels: NDArray[np.bool_]) -> tuple[float, float]:
    """Centre (x, y) of one object (H, W), from the first and last pixel of each row: the others lie between them."""
    import cv2

    rows = np.flatnonzero(pixels.any(axis=1))
    if rows.size == 0:
        return 0.0, 0.0
    first = pixels[rows].argmax(axis=1)
    last = pixels.shape[1] - 1 - pixels[rows, ::-1].argmax(axis=1)
    ends = np.stack([np.concatenate([first, last]), np.concatenate([rows, rows])], axis=1)
    (x, y), _ = cv2.minEnclosingCircle(ends.astype(np.float32))
    return float(x), float(y)
