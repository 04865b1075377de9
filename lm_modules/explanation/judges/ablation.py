"""The judges `deletion` and `insertion`: hide segments in the order of their scores, and follow the probability."""

from collections.abc import Mapping

import numpy as np
import torch
from scipy import integrate
from torch import Tensor

from maskrobust.augment.families.segments import hide_in_order
from maskrobust.lm_modules.explanation.answers import ask
from maskrobust.lm_modules.explanation.explained import Explained
from maskrobust.lm_modules.explanation.explaining import ExplanationRequest
from maskrobust.lm_modules.explanation.judges.registry import ImageToJudge, Judgement, judge
from maskrobust.lm_modules.explanation.segments import Segments
from maskrobust.lm_modules.reliance.arrays import FloatArray, rankable

HIDDEN_FRACTIONS = tuple(np.linspace(0, 1, 11).tolist())
"""Hidden fractions at which the deletion and insertion curves are evaluated."""

_F = len(HIDDEN_FRACTIONS)


def ablation_queries(scores: FloatArray, segments: Segments) -> Tensor:
    """Which segments are visible while they are hidden in the order of their scores.

    Args:
        scores: (M,); of equal scores, the segment with the smaller number counts as the higher.
        segments: segments of one image, M of them.

    Returns:
        (2 F, M) bool on the CPU: with `HIDDEN_FRACTIONS` of the area hidden, to half a segment, the highest scores
        first, then the lowest first.
    """
    labels = segments.labels
    order = torch.from_numpy(np.argsort(-rankable(scores), kind="stable"))
    both = torch.stack((order, order.flip(0))).to(labels.device)
    fractions = torch.tensor(HIDDEN_FRACTIONS, device=labels.device).unsqueeze(1).expand(-1, 2)
    visible = hide_in_order(labels.expand(2, -1, -1), both, fractions)  # (F, 2, 1, H, W)
    first_pixel = np.unique(labels[0].cpu().numpy(), return_index=True)[1]
    by_area = visible.flatten(2)[..., torch.from_numpy(first_pixel).to(labels.device)].cpu()
    return torch.cat((by_area[:, 0], by_area[:, 1]))


def ablate(
    scores: Mapping[str, FloatArray], request: ExplanationRequest, segments: Segments, label: int
) -> dict[str, dict[str, FloatArray]]:
    """What networks answer while segments are hidden in the order of their scores, under every masking method.

    What several explanations ask is asked once. Source: Petsiuk, Das and Saenko, "RISE", BMVC 2018, there over the
    number of pixels.

    Args:
        scores: (R, T, M) by explainer, of R networks under T masking methods.
        request: about the image, to these.
        segments: segments of this one image, M of them.
        label: the class.

    Returns:
        By explainer and what it is, explained under the first and evaluated under the second method: "deletion" and
        "insertion" (R, T, T), the mean probability by trapezoids over the hidden areas as they are; and their curves
        "deletion_curve" and "insertion_curve" (R, T, T, F) at `HIDDEN_FRACTIONS`.
    """
    sizes = np.bincount(segments.labels[0].cpu().numpy().ravel())
    hidden, probabilities = [], []
    image, key, batch_size = request.image, request.key, request.plan.batch_size
    for number, of_network in enumerate(request.predictors):
        z = torch.stack(
            [torch.stack([ablation_queries(each, segments) for each in own[number]]) for own in scores.values()]
        )  # (E, T, 2 F, M)
        unique, place = z.flatten(0, 2).unique(dim=0, return_inverse=True)
        queries, place = segments.queries(0, unique), place.numpy().reshape(z.shape[:3])
        answers = [ask(predict, image, queries, key, batch_size=batch_size) for predict in of_network]
        hidden.append(1 - z.numpy() @ sizes / sizes.sum())
        probabilities.append(np.stack([each[place, label] for each in answers], axis=2))
    found = {}
    for position, explainer in enumerate(scores):
        areas = np.array([each[position] for each in hidden])[:, :, np.newaxis]  # (R, T, 1, 2 F)
        deletion, insertion = np.split(np.array([each[position] for each in probabilities]), 2, axis=-1)
        found[explainer] = {
            "deletion": integrate.trapezoid(deletion, areas[..., :_F]),
            "insertion": integrate.trapezoid(insertion, areas[..., _F:]),
            "deletion_curve": deletion,
            "insertion_curve": insertion,
        }
    return found


def ablated(image: ImageToJudge, about: Explained) -> dict[str, FloatArray]:
    """`ablate` of one explainer, asked once for all of a partition."""
    name = about.partition

    def ask_all() -> dict[str, dict[str, FloatArray]]:
        scores = {each: image.scores(Explained(name, each)) for each in image.request.plan.explainers}
        return ablate(scores, image.request, image.partitions[name], image.label)

    return image.once(("ablation", name), ask_all)[about.explainer]


def _under_each_method(image: ImageToJudge, values: FloatArray) -> Judgement:
    """Values (R, T, T) for each method that they are evaluated under."""
    return {(("evaluated_under", name),): values[:, :, place] for place, name in enumerate(image.methods)}


@judge(
    title="Deletion",
    definition="Mean probability while segments are hidden, the highest scores first, over the hidden area.",
    unit="fraction",
    goal="low",
)
def deletion(image: ImageToJudge, about: Explained) -> Judgement:
    """By `ablate`."""
    return _under_each_method(image, ablated(image, about)["deletion"])


@judge(
    title="Insertion",
    definition="Mean probability while segments are hidden, the lowest scores first, over the hidden area.",
    unit="fraction",
)
def insertion(image: ImageToJudge, about: Explained) -> Judgement:
    """By `ablate`."""
    return _under_each_method(image, ablated(image, about)["insertion"])


@judge(title="Insertion minus deletion", definition="The difference of the two.", unit="fraction")
def insertion_minus_deletion(image: ImageToJudge, about: Explained) -> Judgement:
    """By `ablate`."""
    found = ablated(image, about)
    return _under_each_method(image, found["insertion"] - found["deletion"])
