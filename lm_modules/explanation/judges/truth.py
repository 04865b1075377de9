"""Do explanations agree with what is known to be true?"""

import numpy as np
import torch
from torch import Tensor

from maskrobust.lm_modules.explanation.answers import Scale, ask_whole
from maskrobust.lm_modules.explanation.explained import Explained
from maskrobust.lm_modules.explanation.judges.agreement import rank_correlation
from maskrobust.lm_modules.explanation.judges.registry import ImageToJudge, judge
from maskrobust.lm_modules.explanation.segments import Segments
from maskrobust.lm_modules.methods import Predictor
from maskrobust.lm_modules.reliance.arrays import FloatArray


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
        "Rank correlation of the scores with true effects: how far the answer falls where a segment's part of the "
        "object is really not there, which composites can be rendered without."
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
