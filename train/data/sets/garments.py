"""Garments of Fashion-MNIST cut out of their empty ground and put onto photographs."""

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

PLACE_NUMBERS = 6
"""Uniform numbers that placing one garment takes."""

_NOISE = 3
_SPECK_FRACTION = 0.1
_SMALL_HOLE = 16
_SCALES = (0.9, 1.3)
_MARGIN = 1


def garment_masks(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which pixels are the garment.

    Those brighter than the noise of the ground (3 of 255), without specks (connected parts smaller than a tenth of the
    largest), and with small holes (fewer than 16 pixels, not open to the border) filled. Where nothing is brighter than
    the noise, the brightest pixels count, so that no mask is empty.

    Args:
        images: (N, H, W) uint8, 0 for the empty ground.

    Returns:
        (N, H, W) bool, each with at least one True.
    """
    brightest = images.max(axis=(1, 2), keepdims=True).astype(np.int16)
    bright = images > np.minimum(_NOISE, brightest - 1)
    part_sizes = _component_sizes(bright, diagonal=True)
    largest = part_sizes.max(axis=(1, 2), keepdims=True)
    garment = part_sizes >= np.maximum(1, _SPECK_FRACTION * largest)
    framed = np.pad(~garment, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    gap_sizes = _component_sizes(framed, diagonal=False)[:, 1:-1, 1:-1]
    return np.asarray(garment | (gap_sizes < _SMALL_HOLE))


def place_garments(
    garments: NDArray[np.uint8], backgrounds: NDArray[np.uint8], numbers: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Scale each garment, tint it, and put it at a random place of its background.

    A garment's 28 pixels become 0.9 to 1.3 times 28/48 of the image's side; image and mask are scaled to the same grid,
    the mask by nearest neighbour. Garments are at least 1 pixel away from the border. A garment's grey is multiplied by
    a tint of 0.8 to 1 in each channel; garments are brighter than their background in one image and darker in the next,
    as in photographs, so that a dark hole is not beyond what a network has seen of garments.

    Args:
        garments: (N, 28, 28) uint8.
        backgrounds: (N, S, S, 3) uint8.
        numbers: (N, PLACE_NUMBERS) uniform numbers in [0, 1).

    Returns:
        Images (N, S, S, 3) uint8, and object masks (N, S, S) bool.
    """
    image_size = backgrounds.shape[1]
    garment_side = garments.shape[1]
    fractions = (_SCALES[0] + (_SCALES[1] - _SCALES[0]) * numbers[:, 0].astype(np.float64)) * garment_side / 48
    sides = np.round(fractions * image_size).astype(np.int64)
    corners = _MARGIN + (numbers[:, 1:3] * (image_size - 2 * _MARGIN - sides + 1)[:, None]).astype(np.int64)
    tints = 0.8 + 0.2 * numbers[:, 3:]
    masks = garment_masks(garments)
    images = backgrounds.copy()
    object_mask = np.zeros(images.shape[:3], dtype=np.bool_)
    for row, (side, (top, left)) in enumerate(zip(sides.tolist(), corners.tolist(), strict=True)):
        grey = cv2.resize(garments[row], (side, side), interpolation=cv2.INTER_LINEAR)
        inside = cv2.resize(masks[row].view(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST_EXACT) > 0
        colours = grey[inside][:, None] * tints[row]
        images[row, top : top + side, left : left + side][inside] = colours.astype(np.uint8)
        object_mask[row, top : top + side, left : left + side] = inside
    return images, object_mask


def _component_sizes(masks: NDArray[np.bool_], diagonal: bool) -> NDArray[np.int64]:
    """At each True pixel of (N, H, W) the size of its connected part within its own image, 0 at False ones."""
    structure = np.zeros((3, 3, 3), dtype=np.bool_)
    structure[1] = ndimage.generate_binary_structure(2, 2 if diagonal else 1)
    labels, _ = ndimage.label(masks, structure)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(sizes[labels])
