"""Holes made from the sample's own object: its outline, or its enclosing circle.

An image without an object keeps every pixel visible.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import max_pool2d

from maskrobust.augment.batch import check_object_mask
from maskrobust.augment.families.bank import SilhouetteBank
from maskrobust.augment.families.mask_family import mask_family
from maskrobust.augment.random import fold_in, uniform
from maskrobust.errors import InputError

_CANDIDATES = 4
_KNOTS = 6
_NOISE_LEVELS = 256
_SMOOTHNESS = 64


@mask_family("silhouettes")
def silhouettes(keys: Tensor, height: int, width: int, *, bank: SilhouetteBank) -> Tensor:
    """Hide the silhouette of a uniformly drawn object of the bank, where that object stood in its own image.

    The class of the image does not matter, so that outline and class are independent.

    Args:
        keys: (B,) int64 keys.
        height: image height in pixels; must be the bank's.
        width: image width in pixels; must be the bank's.
        bank: the objects to draw from, on the device of `keys`.

    Returns:
        `visible`, (B, 1, height, width) bool.

    Raises:
        InputError: the bank's masks have another size, or no object to draw.
    """
    check_mask_size(bank.object_masks, height, width)
    drawn = (uniform(fold_in(keys, 0)).double() * len(bank)).long()
    return ~bank.object_masks[drawn]


def check_mask_size(object_masks: Tensor, height: int, width: int) -> None:
    """Refuse silhouettes that do not fit the images they are to be drawn for.

    Args:
        object_masks: (N, 1, H, W), a bank's.
        height: image height in pixels.
        width: image width in pixels.

    Raises:
        InputError: (H, W) is not (height, width).
    """
    size = tuple(object_masks.shape[2:])
    if size != (height, width):
        raise InputError(
            f"the silhouette bank must hold masks of the images' size {(height, width)}, got {size}; build it from "
            "images of that size."
        )


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


@mask_family("enclosing_circles", on_cpu=True)
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


def companion_blobs(keys: Tensor, object_mask: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Draw an irregular blob of exactly `pixels` pixels that neither overlaps nor touches the object.

    A pixel is free when neither it nor any of its 8 neighbours belongs to the object. Around a centre c, the pixels p
    with the least |p - c|^2 (64 + n(p)) are taken, n being smooth noise in [0, 255]; that is one piece unless the
    object stands in the way. c is that of four uniformly drawn free pixels which lies farthest from the object's
    centroid: a blob at the object's side would blur the outline that the object leaves. Everything is computed in
    integers, so a blob depends on its key and object alone, on any device.

    Args:
        keys: (B,) int64 keys.
        object_mask: (B, 1, H, W) bool, True on the object; may be empty.
        pixels: (B,) int64, wanted area of each blob in pixels, at least 0.

    Returns:
        The blobs, (B, 1, H, W) bool, True inside, and which of them fit (B,) bool: where fewer pixels are free than are
        asked for, there is none.
    """
    _, _, height, width = object_mask.shape
    free = max_pool2d(object_mask.float(), kernel_size=3, stride=1, padding=1).flatten(1) == 0
    fits = pixels <= free.sum(dim=1)
    squared_distance = _squared_distance(_draw_centre(fold_in(keys, 0), free, object_mask), height, width)
    cost = squared_distance * (_SMOOTHNESS + _smooth_noise(fold_in(keys, 1), height, width))
    in_order = cost.flatten(1) * (height * width) + torch.arange(height * width, device=keys.device)  # no two are equal
    in_order = in_order.masked_fill(~free, torch.iinfo(torch.int64).max)
    wanted = pixels * fits
    blobs = (in_order <= _nth_smallest(in_order, wanted).unsqueeze(1)) & (wanted > 0).unsqueeze(1)
    return blobs.reshape(object_mask.shape), fits


def _nth_smallest(values: Tensor, nth: Tensor) -> Tensor:
    """The `nth` (B,) smallest value of each row of `values` (B, N) int64, counted from 1; 0 is the smallest, too."""
    places = (nth - 1).clamp(min=0)
    if values.device.type != "cpu":
        return values.sort(dim=1).values.gather(1, places.unsqueeze(1)).squeeze(1)
    # A twentieth of the time of sorting.
    found = [np.partition(row, place)[place] for row, place in zip(values.numpy(), places.tolist(), strict=True)]
    return torch.tensor(found, dtype=torch.int64)


def _draw_centre(keys: Tensor, free: Tensor, object_mask: Tensor) -> Tensor:
    """The (row, column) farthest from the centroid among some positions drawn from `free` (B, H * W): (B, 2) int64."""
    width = object_mask.shape[3]
    passed = free.cumsum(dim=1)
    wanted = (uniform(keys, _CANDIDATES).double() * passed[:, -1:]).long() + 1
    drawn = torch.searchsorted(passed, wanted).clamp(max=free.shape[1] - 1)
    candidates = torch.stack([drawn // width, drawn % width], dim=2)
    distance = (candidates - _centroid(object_mask).unsqueeze(1)).square().sum(dim=2)
    farthest = distance.argmax(dim=1)
    return candidates[torch.arange(len(keys), device=keys.device), farthest]


def _centroid(object_mask: Tensor) -> Tensor:
    """Mean (row, column) of each object, rounded down: (B, 2) int64; zeros where there is no object."""
    objects = object_mask.squeeze(1)
    profiles = [objects.sum(dim=2), objects.sum(dim=1)]
    sums = [(profile * torch.arange(profile.shape[1], device=profile.device)).sum(dim=1) for profile in profiles]
    return torch.stack(sums, dim=1) // objects.sum(dim=(1, 2)).clamp(min=1).unsqueeze(1)


def _squared_distance(centre: Tensor, height: int, width: int) -> Tensor:
    """Squared distance of every pixel to `centre` (B, 2): (B, height, width) int64."""
    down = torch.arange(height, device=centre.device) - centre[:, :1]
    across = torch.arange(width, device=centre.device) - centre[:, 1:]
    return down.square().unsqueeze(2) + across.square().unsqueeze(1)


def _smooth_noise(keys: Tensor, height: int, width: int) -> Tensor:
    """Random values on a coarse grid, interpolated: (B, height, width) int64 in [0, 255]."""
    knots = (uniform(keys, _KNOTS, _KNOTS) * _NOISE_LEVELS).long()
    stretched = _stretch(_stretch(knots, width).transpose(1, 2), height).transpose(1, 2)
    return stretched // (max(height - 1, 1) * max(width - 1, 1))


def _stretch(values: Tensor, size: int) -> Tensor:
    """Interpolate the last dimension linearly to `size` points, times max(size - 1, 1) so that integers stay exact."""
    scale = max(size - 1, 1)
    steps = torch.arange(size, device=values.device) * (values.shape[-1] - 1)
    cell = (steps // scale).clamp(max=values.shape[-1] - 2)
    weight = steps - cell * scale
    return values[..., cell] * (scale - weight) + values[..., cell + 1] * weight
