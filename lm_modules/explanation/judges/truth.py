"""Do explanations agree with what is known to be true: a planted cue, and effects of what an object shows?"""

import itertools
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from maskrobust.augment import fold_in, uniform
from maskrobust.lm_modules.explanation.answers import Scale, ask_whole
from maskrobust.lm_modules.explanation.explained import Explained
from maskrobust.lm_modules.explanation.explaining import explain_image
from maskrobust.lm_modules.explanation.judges.agreement import rank_correlation
from maskrobust.lm_modules.explanation.judges.registry import ImageToJudge, judge
from maskrobust.lm_modules.explanation.segments import Segments
from maskrobust.lm_modules.methods import Predictor
from maskrobust.lm_modules.reliance.arrays import BoolArray, FloatArray, rankable

_CUE = "planted cue"
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


def place_of_cue(scores: FloatArray) -> tuple[float, float]:
    """Area under ROC and rank (1 the highest) of segment 0 among the scores (M,); ties count half."""
    scores = rankable(scores)
    above = float((scores[1:] > scores[0]).sum() + (scores[1:] == scores[0]).sum() / 2)
    return 1 - above / (len(scores) - 1), 1 + above


@judge(
    title="Planted cue: area under ROC",
    definition=(
        "A texture is pasted beside the object that changes the prediction; fraction of the other segments whose score "
        "for the new class is below that of the texture. Left out where no texture does."
    ),
)
def cue_auc(image: ImageToJudge, about: Explained) -> FloatArray | None:
    """The first number of `place_of_cue`."""
    return _places(image, about, 0)


@judge(
    title="Planted cue: rank",
    definition="Place of that texture's score among all segments', 1 being the highest.",
    goal="low",
)
def cue_rank(image: ImageToJudge, about: Explained) -> FloatArray | None:
    """The second number of `place_of_cue`."""
    return _places(image, about, 1)


def _places(image: ImageToJudge, about: Explained, part: int) -> FloatArray | None:
    """One number of `place_of_cue` (R, T); None but for the first partition, or where it is not asked for."""
    if not image.plan.planted_cue or about.partition != next(iter(image.plain)):
        return None
    places: FloatArray = image.once("planted cue", lambda: _places_of_cues(image))[about.explainer][..., part]
    return places


def _places_of_cues(image: ImageToJudge) -> dict[str, FloatArray]:
    """`place_of_cue` (R, T, 2) by explainer, of the class that a texture makes a network predict; NaN without one."""
    request, segments = image.request, next(iter(image.plain.values()))
    predictors, explainers = request.predictors, request.plan.explainers
    places = {each: np.full((len(predictors), len(predictors[0]), 2), np.nan) for each in explainers}
    for number, of_network in enumerate(predictors):
        cue = plant_cue(request.key, request.image, image.object_mask, of_network[0], request.plan.batch_size)
        if cue is None:
            continue
        with_cue = replace(request, image=cue.image, predictors=[of_network])
        found = explain_image(with_cue, {_CUE: segments.with_first(cue.inside)}, [cue.label])
        for explainer, of in places.items():
            scores = found.explanations[Explained(_CUE, explainer)].scores[0]
            of[number] = [place_of_cue(each[:, 0]) for each in scores]
    return places


def true_effects(
    predict: Predictor, image: Tensor, without: Tensor, segments: Segments, label: int, batch_size: int, scale: Scale
) -> FloatArray:
    """How far the answer falls where what a segment shows of the object is not there, and nothing is hidden: (M,).

    Args:
        predict: the network under any masking method.
        image: (C, H, W).
        without: (C, H, W), the same picture without the object.
        segments: of this one image, M of them.
        label: the class.
        batch_size: of forward passes.
        scale: of the answers.
    """
    labels = segments.labels[0]
    touched = labels[(image != without).any(dim=0)].unique()
    pictures = torch.stack([image, *(torch.where(labels == each, without, image) for each in touched)])
    found = ask_whole(predict, pictures, batch_size, scale)[:, label]
    effects = np.zeros(segments.count(0))
    effects[touched.cpu().numpy()] = found[0] - found[1:]
    return effects


@judge(
    title="Oracle removal",
    definition=(
        "Rank correlation of the scores with true effects. True effect of a segment: how far the log-odds fall when "
        "the image is made again without that part of the object; possible only where objects are pasted on "
        "backgrounds."
    ),
)
def oracle(image: ImageToJudge, about: Explained) -> FloatArray:
    """Rank correlation with `true_effects`."""
    scores = image.scores(about)
    truths = image.once(("truth", about.partition), lambda: _truths(image, about.partition))
    if truths is None:
        return np.full(scores.shape[:2], np.nan)
    return np.array(
        [[rank_correlation(each, truth) for each in own] for own, truth in zip(scores, truths, strict=True)]
    )


def _truths(image: ImageToJudge, partition: str) -> list[FloatArray] | None:
    """`true_effects` of each network; None where the picture without the object is not known."""
    without, request = image.without, image.request
    if without is None:
        return None
    plan, segments = request.plan, image.plain[partition]
    return [
        true_effects(each[0], request.image, without, segments, image.label, plan.batch_size, plan.answer_scale)
        for each in request.predictors
    ]
