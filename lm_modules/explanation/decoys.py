"""Decoys: background segments in the shape of another class's object, which an explanation must not fall for.

Hiding a piece of background changes nothing about the object. An explanation that gives such a segment an effect on the
class whose silhouette it has reads the outline of the hole: outline pull, on explanations.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage, signal

from maskrobust.augment import SilhouetteBank, fold_in, uniform
from maskrobust.lm_modules.reliance.arrays import BoolArray

_SCALES = (1.0, 0.75, 0.5, 0.35)
_GAP = 2
_SMALLEST = 16


class Decoy(NamedTuple):
    """A piece of background in the shape of an object.

    Attributes:
        label: class of the object whose shape it has.
        inside: (H, W) bool, True on the decoy.
    """

    label: int
    inside: BoolArray


def draw_decoy(key: int, object_mask: BoolArray, label: int, bank: SilhouetteBank) -> Decoy | None:
    """Draw an object of another class from a bank, and a place for its silhouette that does not touch the object.

    Where there is no room for it, it is made smaller: 3/4, 1/2, then 0.35 as wide and high.

    Args:
        key: int64; decides the object and the place.
        object_mask: (H, W) bool, True on the image's own object.
        label: class of the image.
        bank: silhouettes of the image's size.

    Returns:
        The decoy; None where no other class has a silhouette, or where there is no room.
    """
    others = (bank.labels != label).nonzero().flatten()
    if len(others) == 0:
        return None
    numbers = uniform(fold_in(torch.tensor([key]), 0), 2)[0]
    chosen = int(others[int(numbers[0] * len(others))])
    silhouette = bank.object_masks[chosen, 0].cpu().numpy()
    taken = ndimage.binary_dilation(object_mask, iterations=_GAP)
    shape = silhouette[ndimage.find_objects(silhouette.astype(np.uint8))[0]]
    for scale in _SCALES:
        smaller = ndimage.zoom(shape.astype(np.float32), scale, order=1) >= 0.5
        if smaller.sum() < _SMALLEST or any(np.greater(smaller.shape, taken.shape)):
            continue
        overlap = signal.fftconvolve(taken.astype(np.float64), smaller[::-1, ::-1].astype(np.float64), mode="valid")
        rows, columns = np.nonzero(overlap < 0.5)
        if len(rows):
            place = int(numbers[1] * len(rows))
            inside = np.zeros_like(object_mask)
            inside[rows[place] :, columns[place] :][: smaller.shape[0], : smaller.shape[1]] = smaller
            return Decoy(int(bank.labels[chosen]), inside)
    return None
