"""A planted cue: a texture beside the object that changes the prediction, so that an explanation has to show it."""

import itertools
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from maskrobust.augment import fold_in, uniform
from maskrobust.lm_modules.explanation.judging import ask_whole
from maskrobust.lm_modules.methods import Predictor
from maskrobust.lm_modules.reliance.arrays import BoolArray

_TRIED = 32
_PERIODS = (2, 4, 8)
_COLOURS = torch.tensor([*itertools.product((0.0, 1.0), repeat=3)])


class PlantedCue(NamedTuple):
    """A picture with a texture.

    Attributes:
        image: (3, H, W), the picture with the texture.
        inside: (H, W) bool, True on the texture.
        label: what the network predicts for it, and did not for the picture.
    """

    image: Tensor
    inside: BoolArray
    label: int


def plant_cue(
    key: int, image: Tensor, object_mask: BoolArray, predict: Predictor, batch_size: int
) -> PlantedCue | None:
    """Paste a texture beside the object that changes the prediction, which is checked on the rendered picture.

    A texture is a square, a quarter of the shorter side high, of stripes or a checkerboard in two of eight colours, 2,
    4 or 8 pixels wide. Of 32 that are drawn, those that touch the object are left out.

    Args:
        key: int64; decides the textures and their places.
        image: (3, H, W) in [0, 1].
        object_mask: (H, W) bool, True on the object.
        predict: the network under any masking method.
        batch_size: of forward passes.

    Returns:
        The first that changes the prediction; None where none does, or where there is no room.
    """
    height, width = object_mask.shape
    side = min(height, width) // 4
    numbers = uniform(fold_in(torch.arange(_TRIED), key), 6)
    tops, lefts = ((numbers[:, 0] * (height - side + 1)).long(), (numbers[:, 1] * (width - side + 1)).long())
    places = [
        (each, np.s_[int(top) : int(top) + side, int(left) : int(left) + side])
        for each, top, left in zip(numbers, tops, lefts, strict=True)
    ]
    places = [(each, place) for each, place in places if not object_mask[place].any()]
    pictures = [image]
    for each, place in places:
        pasted = image.clone()
        pasted[(slice(None), *place)] = _texture(each[2:], side).to(image)
        pictures.append(pasted)
    before, *predicted = ask_whole(predict, torch.stack(pictures), batch_size, "logit").argmax(axis=1).tolist()
    for picture, (_, place), label in zip(pictures[1:], places, predicted, strict=True):
        if label != before:
            inside = np.zeros_like(object_mask)
            inside[place] = True
            return PlantedCue(picture, inside, label)
    return None


def _texture(numbers: Tensor, side: int) -> Tensor:
    """(3, side, side) from four numbers in [0, 1): which two colours, which width, which pattern."""
    first = int(numbers[0] * len(_COLOURS))
    second = (first + 1 + int(numbers[1] * (len(_COLOURS) - 1))) % len(_COLOURS)
    cell = torch.arange(side) // _PERIODS[int(numbers[2] * len(_PERIODS))]
    rows, columns = cell[:, None].expand(side, side), cell.expand(side, side)
    odd = (rows, columns, rows + columns)[int(numbers[3] * 3)] % 2 == 1
    return torch.where(odd, _COLOURS[first][:, None, None], _COLOURS[second][:, None, None])
