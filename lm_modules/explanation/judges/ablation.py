"""Segments hidden in the order of their scores: deletion, insertion, and the highest removed or alone."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy import integrate
from torch import Tensor

from maskrobust.augment.families.segments import hide_in_order
from maskrobust.lm_modules.explanation.answers import ask
from maskrobust.lm_modules.explanation.explained import Explained
from maskrobust.lm_modules.explanation.explaining import ExplanationRequest
from maskrobust.lm_modules.explanation.judges.registry import ImageToJudge, Judgement, Judges, judge
from maskrobust.lm_modules.explanation.segments import Segments
from maskrobust.lm_modules.reliance.arrays import FloatArray, rankable
from maskrobust.lm_modules.reliance.catalogue import Goal

HIDDEN_FRACTIONS = tuple(np.linspace(0, 1, 11).tolist())
"""Of the deletion and insertion curves."""

_F = len(HIDDEN_FRACTIONS)


def ablation_queries(scores: FloatArray, segments: Segments, top_k: Sequence[int]) -> Tensor:
    """Which segments are visible while they are hidden in the order of their scores.

    Args:
        scores: (M,); of equal scores, the segment with the smaller number counts as the higher.
        segments: of one image, M of them.
        top_k: numbers of segments; all M where there are fewer.

    Returns:
        (2 F + 2 K, M) bool on the CPU: with `HIDDEN_FRACTIONS` of the area hidden, to half a segment, the highest
        scores first, then the lowest first; without the k highest scores, for each k; and with them alone.
    """
    labels = segments.labels
    order = torch.from_numpy(np.argsort(-rankable(scores), kind="stable"))
    both = torch.stack((order, order.flip(0))).to(labels.device)
    fractions = torch.tensor(HIDDEN_FRACTIONS, device=labels.device).unsqueeze(1).expand(-1, 2)
    visible = hide_in_order(labels.expand(2, -1, -1), both, fractions)  # (F, 2, 1, H, W)
    first_pixel = np.unique(labels[0].cpu().numpy(), return_index=True)[1]
    by_area = visible.flatten(2)[..., torch.from_numpy(first_pixel).to(labels.device)].cpu()
    kept = order.argsort() < torch.tensor(top_k, dtype=torch.int64).unsqueeze(1)
    return torch.cat((by_area[:, 0], by_area[:, 1], ~kept, kept))


def ablate(
    scores: Mapping[str, FloatArray], request: ExplanationRequest, segments: Segments, label: int, top_k: Sequence[int]
) -> dict[str, dict[str, FloatArray]]:
    """What networks answer while segments are hidden in the order of their scores, under every masking method.

    What several explanations ask is asked once. Source of deletion and insertion: Petsiuk, Das and Saenko, "RISE", BMVC
    2018, there over the number of pixels; of the k highest removed and kept: Balasubramanian and Feizi, ICCV 2023.

    Args:
        scores: (R, T, M) by explainer, of R networks under T masking methods.
        request: about the image, to these.
        segments: of this one image, M of them.
        label: the class.
        top_k: K numbers of segments.

    Returns:
        By explainer and what it is, explained under the first and evaluated under the second method: "deletion" and
        "insertion" (R, T, T), the mean probability by trapezoids over the hidden areas as they are; their curves
        "deletion_curve" and "insertion_curve" (R, T, T, F) at `HIDDEN_FRACTIONS`; "top_k_removed" and "top_k_kept"
        (R, T, T, K), the probability, and with "_accuracy" whether the class is the likeliest; NaN for k above M.
    """
    sizes = np.bincount(segments.labels[0].cpu().numpy().ravel())
    hidden, probabilities, likeliest = [], [], []
    image, key, batch_size = request.image, request.key, request.plan.batch_size
    for number, of_network in enumerate(request.predictors):
        z = torch.stack(
            [torch.stack([ablation_queries(each, segments, top_k) for each in own[number]]) for own in scores.values()]
        )  # (E, T, Q, M)
        unique, place = z.flatten(0, 2).unique(dim=0, return_inverse=True)
        queries, place = segments.queries(0, unique), place.numpy().reshape(z.shape[:3])
        answers = [ask(predict, image, queries, key, batch_size=batch_size) for predict in of_network]
        hidden.append(1 - z[..., : 2 * _F, :].numpy() @ sizes / sizes.sum())
        probabilities.append(np.stack([each[place, label] for each in answers], axis=2))
        likeliest.append(np.stack([each.argmax(axis=1)[place] == label for each in answers], axis=2))
    missing = np.array(top_k) > segments.count(0)

    def parts(each: FloatArray) -> list[FloatArray]:
        """Of (R, T, T, Q), what is removed and what is kept."""
        return [np.where(missing, np.nan, half) for half in np.split(each[..., 2 * _F :], 2, axis=-1)]

    found = {}
    for position, explainer in enumerate(scores):
        areas = np.array([each[position] for each in hidden])[:, :, np.newaxis]  # (R, T, 1, 2 F)
        answers_of = np.array([each[position] for each in probabilities])  # (R, T, T, Q)
        correct = np.array([each[position] for each in likeliest], dtype=np.float64)
        deletion, insertion = answers_of[..., :_F], answers_of[..., _F : 2 * _F]
        removed, kept = parts(answers_of)
        removed_accuracy, kept_accuracy = parts(correct)
        found[explainer] = {
            "deletion": integrate.trapezoid(deletion, areas[..., :_F]),
            "insertion": integrate.trapezoid(insertion, areas[..., _F:]),
            "deletion_curve": deletion,
            "insertion_curve": insertion,
            "top_k_removed": removed,
            "top_k_kept": kept,
            "top_k_removed_accuracy": removed_accuracy,
            "top_k_kept_accuracy": kept_accuracy,
        }
    return found


def ablated(image: ImageToJudge, about: Explained) -> dict[str, FloatArray]:
    """`ablate` of one explainer, asked once for all of a partition."""
    name = about.partition

    def ask_all() -> dict[str, dict[str, FloatArray]]:
        scores = {each: image.scores(Explained(name, each)) for each in image.request.plan.explainers}
        return ablate(scores, image.request, image.plain[name], image.label, image.plan.top_k)

    return image.once(("ablation", name), ask_all)[about.explainer]


def _measure(which: str) -> Judges:
    """One of the results of `ablate` for each method that it is evaluated under, and each number of segments."""

    def under_each_method(image: ImageToJudge, about: Explained) -> Judgement:
        found = ablated(image, about)
        values = found["insertion"] - found["deletion"] if which == "insertion_minus_deletion" else found[which]
        under = [(("evaluated_under", name), values[:, :, place]) for place, name in enumerate(image.methods)]
        if not which.startswith("top_k"):
            return {(name,): each for name, each in under}
        return {(name, ("k", k)): each[..., at] for name, each in under for at, k in enumerate(image.plan.top_k)}

    return under_each_method


_LOW: Goal = "low"
_HIGH: Goal = "high"
_MEASURES = {
    "deletion": (
        "Deletion",
        "Mean probability while segments are hidden, the highest scores first, over the hidden area.",
        _LOW,
    ),
    "insertion": (
        "Insertion",
        "Mean probability while segments are hidden, the lowest scores first, over the hidden area.",
        _HIGH,
    ),
    "insertion_minus_deletion": ("Insertion minus deletion", "The difference of the two.", _HIGH),
    "top_k_removed": ("Top k removed", "Probability while the k segments with the highest scores are hidden.", _LOW),
    "top_k_kept": ("Top k kept", "Probability while the k segments with the highest scores alone are visible.", _HIGH),
    "top_k_removed_accuracy": (
        "Top k removed: accuracy",
        "How often the class is still the likeliest while the k segments with the highest scores are hidden.",
        _LOW,
    ),
    "top_k_kept_accuracy": (
        "Top k kept: accuracy",
        "How often the class is the likeliest while the k segments with the highest scores alone are visible.",
        _HIGH,
    ),
}
for _name, (_title, _definition, _goal) in _MEASURES.items():
    judge(name=_name, title=_title, definition=_definition, unit="fraction", goal=_goal)(_measure(_name))
