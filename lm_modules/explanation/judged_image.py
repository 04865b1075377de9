"""All measures of the explanations of one image."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from maskrobust.augment import fold_in
from maskrobust.lm_modules.explanation.explaining import Arrays, explain_image
from maskrobust.lm_modules.explanation.judging import (
    HIDDEN_FRACTIONS,
    coverage,
    decoy_pull,
    decoy_share,
    jaccard,
    mean_rank_correlation,
    object_shares,
    pointing,
    rank_correlation,
    true_effects,
    while_hiding,
    win_shares,
)
from maskrobust.lm_modules.explanation.plan import DRAWING, WITH_SURROGATE, ExplanationPlan
from maskrobust.lm_modules.explanation.segments import Segments
from maskrobust.lm_modules.methods import Predictor
from maskrobust.lm_modules.reliance.arrays import BoolArray, FloatArray

_OF_SCORES = ("oracle", "coverage", "jaccard", "pointing")
_BY_CLASS = ("/scores", "/low", "/high", "/r_squared", "/answers")

DECOYS = "decoys"
"""Name of the partition that `decoys.with_decoy` makes."""


def judge_image(
    found: Arrays,
    image: Tensor,
    partitions: Mapping[str, Segments],
    predictors: Sequence[Sequence[Predictor]],
    plan: ExplanationPlan,
    object_mask: BoolArray,
    key: int,
    *,
    without: Tensor | None = None,
    seeds: int,
    asked: Callable[[], object] = lambda: None,
) -> Arrays:
    """Judge the explanations of one image, of the first of its classes.

    Args:
        found: what `explain_image` found of the same image, partitions, R x T predictors and plan.
        image: (C, H, W).
        partitions: by name; of the one called `DECOYS`, the decoy measures alone are taken, of the others all others.
        predictors: by network and masking method.
        plan: of the explanations.
        object_mask: (H, W) bool, True on the object; empty where there is none.
        key: of the explanations.
        without: (C, H, W), the same picture without the object; None where it is not known.
        seeds: from how many seeds stability is measured, those of `found` included; 1 leaves it out.
        asked: called when a network has answered under one masking method.

    Returns:
        Arrays "<partition>/<explainer>/judged/<measure>": (R, T), (R, T, 2) for a ratio's two parts, and (R, T, T) for
        deletion and insertion, explained under the first and evaluated under the second method. NaN where undefined;
        an explainer without a surrogate has no fidelity, one that draws nothing no stability.
        "<partition>/<explainer>/curves/deletion" and ".../insertion" (R, T, T, F) at `HIDDEN_FRACTIONS`.
    """
    judged: Arrays = {}
    plain = {name: segments for name, segments in partitions.items() if name != DECOYS}
    others = _from_other_seeds(found, image, plain, predictors, plan, key, seeds, asked)
    label = int(found["classes"][0])
    for name, segments in plain.items():
        scores = {each: found[f"{name}/{each}/scores"][..., 0] for each in plan.explainers}  # (R, T, M)
        shares = object_shares(segments, object_mask)
        truths = [
            None
            if without is None
            else true_effects(each[0], image, without, segments, label, plan.batch_size, plan.answer_scale)
            for each in predictors
        ]
        for explainer, own in scores.items():
            rest = [each for other, each in scores.items() if other != explainer]
            again = [each[f"{name}/{explainer}/scores"][..., 0] for each in others] if explainer in DRAWING else []
            values, curves = _while_hiding(own, image, segments, predictors, label, key, plan.batch_size)
            if explainer in WITH_SURROGATE:
                values["fidelity"] = np.maximum(found[f"{name}/{explainer}/r_squared"][..., 0], 0)
            asked_for = [*_OF_SCORES, *(["agreement"] if rest else []), *(["stability"] if again else [])]
            values |= {measure: np.full(own.shape[:2], np.nan) for measure in asked_for}
            for place in np.ndindex(*own.shape[:2]):
                each = own[place]
                if rest:
                    values["agreement"][place] = np.mean([rank_correlation(each, other[place]) for other in rest])
                if again:
                    values["stability"][place] = mean_rank_correlation(np.array([each, *(o[place] for o in again)]))
                truth = truths[place[0]]
                if truth is not None:
                    values["oracle"][place] = rank_correlation(each, truth)
                if object_mask.any():
                    values["coverage"][place] = coverage(each, shares)
                    values["jaccard"][place] = jaccard(each, shares)
                    values["pointing"][place] = pointing(each, shares)
            values["win_share"] = np.array([win_shares(each) for each in values["coverage"]])
            judged |= {f"{name}/{explainer}/judged/{measure}": each for measure, each in values.items()}
            judged |= {f"{name}/{explainer}/curves/{which}": each for which, each in curves.items()}
    for explainer in set(plan.explainers) - {"occlusion"} if DECOYS in partitions else ():  # windows hide no outline
        all_scores = found[f"{DECOYS}/{explainer}/scores"]  # (R, T, M, C)
        for measure, of in (("decoy_pull", decoy_pull), ("decoy_share", decoy_share)):
            parts = [[of(each) for each in of_network] for of_network in all_scores]
            judged[f"{DECOYS}/{explainer}/judged/{measure}"] = np.array(parts)
    return judged


def _while_hiding(
    scores: FloatArray,
    image: Tensor,
    segments: Segments,
    predictors: Sequence[Sequence[Predictor]],
    label: int,
    key: int,
    batch_size: int,
) -> tuple[Arrays, Arrays]:
    """Deletion, insertion and their difference; and the curves of the first two."""
    methods = scores.shape[1]
    means = np.empty((2, *scores.shape[:2], methods))
    curves = np.empty((*means.shape, len(HIDDEN_FRACTIONS)))
    for network, explained, evaluated in np.ndindex(len(scores), methods, methods):
        order = np.argsort(-scores[network, explained], kind="stable").tolist()
        for number, each in enumerate((order, order[::-1])):
            predict = predictors[network][evaluated]
            place = number, network, explained, evaluated
            curves[place], means[place] = while_hiding(predict, image, segments, each, label, key, batch_size)
    deletion, insertion = means
    areas = {"deletion": deletion, "insertion": insertion, "insertion_minus_deletion": insertion - deletion}
    return areas, {"deletion": curves[0], "insertion": curves[1]}


def _from_other_seeds(
    found: Arrays,
    image: Tensor,
    partitions: Mapping[str, Segments],
    predictors: Sequence[Sequence[Predictor]],
    plan: ExplanationPlan,
    key: int,
    seeds: int,
    asked: Callable[[], object],
) -> list[Arrays]:
    drawn = tuple(each for each in plan.explainers if each in DRAWING)
    if not drawn:
        return []
    redrawn = replace(plan, explainers=drawn)
    keys = [int(fold_in(torch.tensor(key), seed)) for seed in range(1, seeds)]
    first = [int(found["classes"][0])]
    return [explain_image(image, partitions, predictors, redrawn, first, each, asked) for each in keys]


def with_own_class_alone(found: Arrays) -> Arrays:
    """The arrays of `explain_image` for the first class alone, but for those of decoys and windows.

    "<DECOYS>/classes" says which classes those are of.
    """
    kept: Arrays = {f"{DECOYS}/classes": found["classes"], **found, "classes": found["classes"][:1]}
    for name, each in found.items():
        if name == "whole" or (name.endswith(_BY_CLASS) and not name.startswith((f"{DECOYS}/", "windows/"))):
            kept[name] = each[..., :1]
    return kept
