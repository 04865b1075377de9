"""What networks that classify pixels lose beside holes, and how far their answers depend on what a hole is filled with.

Distances are in pixels between centres, rounded up, to the nearest hidden pixel: a pixel beside a hole has distance 1.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from maskrobust.lm_modules.methods import MaskingMethod
from maskrobust.lm_modules.reliance.arrays import IntArray
from maskrobust.lm_modules.training.processes import counts_of_pixels

EDGES = (2, 5, 10)
"""The largest distance of each band but the last, which has no end."""

BANDS = ("1-2 px", "3-5 px", "6-10 px", "over 10 px")
"""The bands of distances, in order."""

ANYWHERE = "any"
"""In place of a band: all visible pixels."""

PAINTS: tuple[MaskingMethod, ...] = ("black", "mean", "random_colour", "uniform_noise")
"""Fills with which `changed_by_paint` paints the same hole."""


class PixelCounts(NamedTuple):
    """Numbers of pixels in N images, sorted by id, each id once.

    Attributes:
        ids: (N,) int64, ascending.
        objects: (N,) int64, which object each image shows.
        counts: (N, C) int64; what the C numbers are, a measure of pixels says.
    """

    ids: IntArray
    objects: IntArray
    counts: IntArray


def bands_of(visible: Tensor) -> Tensor:
    """The band of each visible pixel by its distance to the nearest hidden one of its image.

    Args:
        visible: (B, 1, H, W) bool.

    Returns:
        (B, H, W) int64 on the same device: a place in `BANDS`, the last one in an image without a hole, and -1 where
        nothing is visible.
    """
    from scipy import ndimage  # here: it takes a second, which the help of commands does without

    shown = visible[:, 0].cpu().numpy()
    found = np.full(shown.shape, len(EDGES))
    for each, of in zip(shown, found, strict=True):
        if not each.all():
            of[:] = np.digitize(ndimage.distance_transform_edt(each), EDGES, right=True)
    return torch.from_numpy(np.where(shown, found, -1)).to(visible.device)


def counts_by_band(predicted: Tensor, targets: Tensor, bands: Tensor, num_classes: int) -> Tensor:
    """`counts_of_pixels` in each band: pixels of each class that are right, are labelled, and are predicted.

    Args:
        predicted: (B, H, W) int64 in [0, K).
        targets: (B, H, W) int64; pixels below 0 count nowhere.
        bands: (B, H, W) int64, see `bands_of`.
        num_classes: K.

    Returns:
        (B, number of bands, 3, K) int64.
    """
    each = (targets.where(bands == band, -1) for band in range(len(BANDS)))
    return torch.stack([counts_of_pixels(predicted, of, num_classes) for of in each], dim=1)


def changed_by_paint(predicted: Tensor, bands: Tensor) -> Tensor:
    """How many visible pixels have more than one class under several paints of the same hole, of how many.

    Args:
        predicted: (P, B, H, W) int64, the classes under each paint.
        bands: (B, H, W) int64, see `bands_of`.

    Returns:
        (B, number of bands, 2) int64: pixels whose class changes, and visible pixels, labelled or not.
    """
    changes = (predicted != predicted[0]).any(dim=0)
    within = torch.stack([bands == band for band in range(len(BANDS))], dim=1)
    return torch.stack([within & changes[:, None], within], dim=-1).sum(dim=(2, 3))
