"""All measures of the explanations of one image."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from maskrobust.augment import fold_in
from maskrobust.lm_modules.explanation.ablation import ablate
from maskrobust.lm_modules.explanation.explaining import Arrays, explain_image
from maskrobust.lm_modules.explanation.judging import (
    coverage,
    decoy_pull,
    decoy_share,
    jaccard,
    mean_rank_correlation,
    object_shares,
    place_of_cue,
    pointing,
    rank_correlation,
    true_effects,
    win_shares,
)
from maskrobust.lm_modules.explanation.plan import DRAWING, WITH_SURROGATE, ExplanationPlan, JudgingPlan
from maskrobust.lm_modules.explanation.planted import plant_cue
from maskrobust.lm_modules.explanation.segments import Segments
from maskrobust.lm_modules.methods import Predictor
from maskrobust.lm_modules.reliance.arrays import BoolArray, FloatArray

_OF_SCORES = ("oracle", "coverage", "jaccard", "pointing")
_BY_CLASS = ("/scores", "/low", "/high", "/r_squared", "/answers")

DECOYS = "decoys"
"""Name of the partition whose first segment is the object, and whose second a decoy."""

CUE = "planted cue"
"""Name of the partition whose first segment is a planted cue."""

FILL_COLOURS = tuple(itertools.product((0.0, 1.0), repeat=3))
"""Black, white, and the six others at the corners of the RGB cube."""


def judge_image(
    found: Arrays,
    image: Tensor,
    partitions: Mapping[str, Segments],
    predictors: Sequence[Sequence[Predictor]],
    plan: ExplanationPlan,
    object_mask: BoolArray,
    key: int,
    judging: JudgingPlan,
    *,
    without: Tensor | None = None,
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
        judging: what is measured beside the rest.
        without: (C, H, W), the same picture without the object; None where it is not known.
        asked: called when a network has answered under one masking method.

    Returns:
        Arrays "<partition>/<explainer>/judged/<measure>": (R, T), (R, T, 2) for a ratio's two parts, (R, T, T) for
        deletion and insertion, explained under the first and evaluated under the second method, (R, T, T, K) for top k,
        and (R, 1) for the consistency of fill colours. NaN where undefined; an explainer without a surrogate has no
        fidelity, one that draws nothing no stability.
        "<partition>/<explainer>/curves/deletion" and ".../insertion" (R, T, T, F) at `ablation.HIDDEN_FRACTIONS`.
    """
    judged: Arrays = {}
    plain = {name: segments for name, segments in partitions.items() if name != DECOYS}
    others = _from_other_seeds(found, image, plain, predictors, plan, key, judging.stability_seeds, asked)
    label = int(found["classes"][0])
    for name, segments in plain.items():
        scores: dict[str, FloatArray] = {
            each: found[f"{name}/{each}/scores"][..., 0]
            for each in plan.explainers  # (R, T, M)
        }
        shares = object_shares(segments, object_mask)
        truths = [
            None
            if without is None
            else true_effects(each[0], image, without, segments, label, plan.batch_size, plan.answer_scale)
            for each in predictors
        ]
        ablated = ablate(
            scores, image, segments, predictors, label, key, top_k=judging.top_k, batch_size=plan.batch_size
        )
        for explainer, own in scores.items():
            rest = [each for other, each in scores.items() if other != explainer]
            again = [each[f"{name}/{explainer}/scores"][..., 0] for each in others] if explainer in DRAWING else []
            values = ablated[explainer]
            curves = {which: values.pop(f"{which}_curve") for which in ("deletion", "insertion")}
            values["insertion_minus_deletion"] = values["insertion"] - values["deletion"]
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
    if judging.fill_colours:
        judged |= _colour_consistency(label, image, plain, predictors, plan, key, asked)
    if judging.planted_cue:
        judged |= _planted_cue(image, next(iter(plain.values())), predictors, plan, object_mask, key, asked)
    return judged


def painted(predict: Predictor, colour: Sequence[float]) -> Predictor:
    """The same network, shown whole pictures with a constant RGB colour in [0, 1] in the hole."""

    def paint(images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
        fill = images.new_tensor(colour)[:, None, None]
        return predict(torch.where(visible, images, fill), torch.ones_like(visible), keys)

    return paint


def _colour_consistency(
    label: int,
    image: Tensor,
    partitions: Mapping[str, Segments],
    predictors: Sequence[Sequence[Predictor]],
    plan: ExplanationPlan,
    key: int,
    asked: Callable[[], object],
) -> Arrays:
    in_colours = [[painted(of_network[0], colour) for colour in FILL_COLOURS] for of_network in predictors]
    found = explain_image(image, partitions, in_colours, plan, [label], key, asked)
    return {
        f"{name}/{explainer}/judged/colour_consistency": np.array(
            [[mean_rank_correlation(each[..., 0])] for each in found[f"{name}/{explainer}/scores"]]
        )
        for name, explainer in itertools.product(partitions, plan.explainers)
    }


def _planted_cue(
    image: Tensor,
    segments: Segments,
    predictors: Sequence[Sequence[Predictor]],
    plan: ExplanationPlan,
    object_mask: BoolArray,
    key: int,
    asked: Callable[[], object],
) -> Arrays:
    """Explanations of the class that a texture makes each network predict, NaN where none does."""
    places = {each: np.full((len(predictors), len(predictors[0]), 2), np.nan) for each in plan.explainers}
    for number, of_network in enumerate(predictors):
        cue = plant_cue(key, image, object_mask, of_network[0], plan.batch_size)
        if cue is None:
            continue
        partition = {CUE: segments.with_first(cue.inside)}
        found = explain_image(cue.image, partition, [of_network], plan, [cue.label], key, asked)
        for explainer, of in places.items():
            of[number] = [place_of_cue(each[:, 0]) for each in found[f"{CUE}/{explainer}/scores"][0]]
    return {
        f"{CUE}/{explainer}/judged/{measure}": of[..., part]
        for explainer, of in places.items()
        for part, measure in enumerate(("cue_auc", "cue_rank"))
    }


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
