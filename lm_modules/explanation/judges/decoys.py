"""Decoys: background segments in the shape of another class's object, which an explanation must not fall for.

Hiding a piece of background changes nothing about the object. An explanation that gives such a segment an effect on the
class whose silhouette it has reads the outline of the hole: outline pull, on explanations.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage, signal

from maskrobust.augment import SilhouetteBank, fold_in, uniform
from maskrobust.lm_modules.explanation.explained import Explained
from maskrobust.lm_modules.explanation.explainers.registry import find_explainer
from maskrobust.lm_modules.explanation.judges.registry import ImageToJudge, judge
from maskrobust.lm_modules.reliance.arrays import BoolArray, FloatArray

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


def pull_of_decoy(scores: FloatArray) -> tuple[float, float]:
    """Numerator and denominator of the decoy pull.

    Args:
        scores: (M, C) of a partition whose segment 0 is the object, and 1 the decoy; class 0 is the image's, 1
            that of the decoy's shape, the others are any others.

    Returns:
        The mean score of the decoy for the other classes minus that for its own (a hole that looks like class j raises
        it, so that the visible decoy has a score below 0), and the object's score for the image's class.
    """
    others = float(scores[1, 2:].mean()) if scores.shape[1] > 2 else 0.0
    return others - float(scores[1, 1]), float(scores[0, 0])


def share_of_decoy(scores: FloatArray) -> tuple[float, float]:
    """Numerator and denominator of the decoy share, of the scores of `pull_of_decoy`; NaN where all scores are 0."""
    magnitudes = np.abs(scores[:, :2])
    total = magnitudes.sum(axis=0)
    if not (total > 0).all():
        return float("nan"), float("nan")
    return float(magnitudes[1, 1] / total[1]), float(magnitudes[0, 0] / total[0])


@judge(
    title="Decoy pull",
    definition=(
        "A decoy is a segment of background in the shape of another object, of class j; it is background, so its true "
        "effect on j is about 0. (Mean score of the decoy for the other classes minus its score for j) divided by "
        "(score of the object for its own class). Above 0: hiding the decoy makes j likelier."
    ),
    goal="zero",
    is_ratio=True,
    of_decoys=True,
)
def decoy_pull(image: ImageToJudge, about: Explained) -> FloatArray | None:
    """By `pull_of_decoy`."""
    return _of_decoy(image, about, pull_of_decoy)


@judge(
    title="Decoy share",
    definition=(
        "The decoy's fraction of the sum of absolute scores for class j, divided by the object's fraction of that sum "
        "for its own class. Noise of the scores makes it larger than 0."
    ),
    goal="low",
    is_ratio=True,
    of_decoys=True,
)
def decoy_share(image: ImageToJudge, about: Explained) -> FloatArray | None:
    """By `share_of_decoy`."""
    return _of_decoy(image, about, share_of_decoy)


def _of_decoy(
    image: ImageToJudge, about: Explained, parts: Callable[[FloatArray], tuple[float, float]]
) -> FloatArray | None:
    """Numerator and denominator (R, T, 2); None where no outline is hidden, as by windows or by Grad-CAM."""
    if about.explainer == "occlusion" or find_explainer(about.explainer).reads_network is not None:
        return None
    scores = image.explained.explanations[about].scores  # (R, T, M, C)
    return np.array([[parts(each) for each in of_network] for of_network in scores])
