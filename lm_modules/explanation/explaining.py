"""One image explained by several explainers, for several networks under several masking methods, on the same holes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskrobust.errors import InputError
from maskrobust.lm_modules.explanation.answers import Queries, ask
from maskrobust.lm_modules.explanation.linear import Explanation, kernel_shap, lime
from maskrobust.lm_modules.explanation.occlusion import leave_one_out, occlusion, window_occlusion, window_queries
from maskrobust.lm_modules.explanation.plan import WITH_SURROGATE, ExplainerName, ExplanationPlan
from maskrobust.lm_modules.explanation.rise import rise
from maskrobust.lm_modules.explanation.sampling import (
    draw_balanced,
    draw_coalitions,
    draw_independent,
    draw_paper_protocol,
    with_ends,
)
from maskrobust.lm_modules.explanation.segments import Segments
from maskrobust.lm_modules.methods import Predictor
from maskrobust.lm_modules.reliance.arrays import FloatArray

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Inquiry:
    """What is asked about one image, whatever its segments and classes.

    Attributes:
        image: (C, H, W) float in [0, 1], on the networks' device.
        predictors: by network and masking method, R x T of them; all networks have the same classes.
        plan: which explainers, and what is asked.
        key: int64; decides queries and random fills.
        asked: called when a network has answered all queries of one kind under one masking method.
    """

    image: Tensor
    predictors: Sequence[Sequence[Predictor]]
    plan: ExplanationPlan
    key: int
    asked: Callable[[], object] = lambda: None


def explain_image(inquiry: Inquiry, partitions: Mapping[str, Segments], classes: int | Sequence[int]) -> Arrays:
    """Explain what networks predict for one image, under each masking method.

    Args:
        inquiry: about the image.
        partitions: by name, each of this one image, on its device.
        classes: that are explained, or how many of those that the first network finds likeliest for the whole image.

    Returns:
        Arrays by name, for C classes, partitions of M segments and N queries:

        - "classes" (C,) int64; "predicted" (R,) int64, the likeliest class for the whole image, with its probability
          "confidence" (R,) float64, and "whole" (R, C) float64, the probabilities of `classes`;
        - "<partition>/segments" (H, W) int32;
        - "<partition>/<queries>/visible" (N, M) bool and ".../answers" (R, T, N, C) float32, on the plan's scale, the
          queries being "drawn", "coalitions" or "leave_one_out";
        - "windows/answers" (R, T, 1 + W, C) float32, of occlusion by windows;
        - "<partition>/<explainer>/scores", ".../low" and ".../high" (R, T, M, C) float64, the bounds NaN for an
          explainer without intervals, and ".../r_squared" (R, T, C) float64, NaN for one without a surrogate. A
          segment's score by occlusion is the mean over its pixels.

    Raises:
        InputError: there are too few queries for the segments, or answers are not finite.
    """
    image, predictors, plan, key = inquiry.image, inquiry.predictors, inquiry.plan, inquiry.key
    nothing_hidden = Queries.of(torch.ones_like(image[None, :1], dtype=torch.bool))
    whole = np.concatenate([ask(of_network[0], image, nothing_hidden, key) for of_network in predictors])
    chosen = whole[0].argsort(kind="stable")[::-1][:classes] if isinstance(classes, int) else np.array(classes)
    found: Arrays = {
        "classes": chosen.astype(np.int64),
        "predicted": whole.argmax(axis=1),
        "confidence": whole.max(axis=1),
        "whole": whole[:, chosen],
    }

    def answers_to(queries: Queries) -> NDArray[np.float32]:
        tables = []
        for predict in (each for of_network in predictors for each in of_network):
            table = ask(predict, image, queries, key, batch_size=plan.batch_size, scale=plan.answer_scale)
            tables.append(table[:, chosen].astype(np.float32))
            inquiry.asked()
        return np.array(tables).reshape(len(predictors), -1, *tables[0].shape)

    height, width = image.shape[1:]
    if "occlusion" in plan.explainers:
        found["windows/answers"] = answers_to(window_queries(height, width, plan.window, plan.stride, image.device))
    for name, segments in partitions.items():
        found[f"{name}/segments"] = segments.labels[0].cpu().numpy().astype(np.int32)
        for kind, z in draw_queries(plan, key, segments.count(0)).items():
            found[f"{name}/{kind}/visible"] = z.numpy()
            found[f"{name}/{kind}/answers"] = answers_to(segments.queries(0, z))
        for explainer in plan.explainers:
            found |= _explain(explainer, name, segments, plan, found)
    return found


def draw_queries(plan: ExplanationPlan, key: int, segments: int) -> dict[str, Tensor]:
    """What a plan's explainers ask about an image of M segments: (N, M) bool by kind; `explain_image` names these.

    Raises:
        InputError: there are too few queries for the segments.
    """
    surrogates = [each for each in WITH_SURROGATE if each in plan.explainers]
    samples = 512 if plan.design == "paper" else plan.samples
    if surrogates and samples < segments + 3:
        raise InputError(
            f"{segments} segments need at least {segments + 3} samples, got {samples}; draw more, or take larger "
            "segments."
        )
    kinds: dict[str, Tensor] = {}
    if "lime" in plan.explainers or "rise" in plan.explainers or (surrogates and plan.design == "balanced"):
        match plan.design:
            case "balanced":
                kinds["drawn"] = with_ends(draw_balanced(key, samples, segments))
            case "independent":
                kinds["drawn"] = draw_independent(key, samples, segments, plan.shares)
            case "paper":
                kinds["drawn"] = draw_paper_protocol(key, segments)
    if "kernel_shap" in plan.explainers and plan.design != "balanced":
        kinds["coalitions"] = draw_coalitions(key, samples, segments)
    if "leave_one_out" in plan.explainers:
        kinds["leave_one_out"] = leave_one_out(segments)
    return kinds


def _explain(
    explainer: ExplainerName, name: str, segments: Segments, plan: ExplanationPlan, found: Mapping[str, NDArray[Any]]
) -> Arrays:
    """One explainer's scores of one partition, for every network and masking method."""
    if explainer == "occlusion":
        answers = found["windows/answers"]
        z = torch.empty(0)
    else:
        own = explainer == "kernel_shap" and plan.design != "balanced"
        kind = "leave_one_out" if explainer == "leave_one_out" else "coalitions" if own else "drawn"
        answers, z = found[f"{name}/{kind}/answers"], torch.from_numpy(found[f"{name}/{kind}/visible"])

    def explain(answers: FloatArray) -> Explanation:
        match explainer:
            case "lime":
                return lime(z, answers)
            case "kernel_shap":
                return kernel_shap(z, answers, drawn_by_kernel=plan.design != "balanced")
            case "rise":
                first = {"balanced": 2, "paper": 1, "independent": 0}[plan.design]  # those that are not drawn
                return rise(z[first:], answers[first:], sum(plan.shares) / 2)
            case "leave_one_out":
                return _without_interval(occlusion(answers))
            case "occlusion":
                height, width = segments.labels.shape[1:]
                return _without_interval(
                    segment_means(segments, window_occlusion(answers, height, width, plan.window, plan.stride))
                )

    each = [[explain(table.astype(np.float64)) for table in of_network] for of_network in answers]
    missing = np.full(answers.shape[-1], np.nan)
    arrays: Arrays = {
        f"{name}/{explainer}/{part}": np.array([[getattr(one, part) for one in of_network] for of_network in each])
        for part in ("scores", "low", "high")
    }
    arrays[f"{name}/{explainer}/r_squared"] = np.array(
        [[missing if one.r_squared is None else one.r_squared for one in of_network] for of_network in each]
    )
    return arrays


def segment_means(segments: Segments, heat: FloatArray) -> FloatArray:
    """The mean over each segment of the first image of values at pixels (H, W, K): (M, K) float64."""
    labels = segments.labels[0].cpu().numpy().ravel()
    sums = np.zeros((segments.count(0), heat.shape[-1]))
    np.add.at(sums, labels, heat.reshape(len(labels), -1))
    return sums / np.bincount(labels)[:, np.newaxis]


def _without_interval(scores: FloatArray) -> Explanation:
    nothing = np.full_like(scores, np.nan)
    return Explanation(scores, nothing, nothing, None)
