"""All measures of the explanations of one image."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from maskrobust.augment import fold_in
from maskrobust.lm_modules.explanation.ablation import ablate
from maskrobust.lm_modules.explanation.explaining import Arrays, Inquiry, explain_image
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
from maskrobust.lm_modules.explanation.plan import DRAWING, WITH_SURROGATE, JudgingPlan
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
    inquiry: Inquiry,
    partitions: Mapping[str, Segments],
    object_mask: BoolArray,
    judging: JudgingPlan,
    *,
    without: Tensor | None = None,
) -> Arrays:
    """Judge the explanations of one image, of the first of its classes.

    Args:
        found: what `explain_image` found by the same inquiry about the same partitions.
        inquiry: about the image, to R networks under T masking methods.
        partitions: by name; of the one called `DECOYS`, the decoy measures alone are taken, of the others all others.
        object_mask: (H, W) bool, True on the object; empty where there is none.
        judging: what is measured beside the rest.
        without: (C, H, W), the same picture without the object; None where it is not known.

    Returns:
        Arrays "<partition>/<explainer>/judged/<measure>": (R, T), (R, T, 2) for a ratio's two parts, (R, T, T) for
        deletion and insertion, explained under the first and evaluated under the second method, (R, T, T, K) for top k,
        and (R, 1) for the consistency of fill colours. NaN where undefined; an explainer without a surrogate has no
        fidelity, one that draws nothing no stability.
        "<partition>/<explainer>/curves/deletion" and ".../insertion" (R, T, T, F) at `ablation.HIDDEN_FRACTIONS`.
    """
    image, plan, judged = inquiry.image, inquiry.plan, Arrays()
    plain = {name: segments for name, segments in partitions.items() if name != DECOYS}
    label = int(found["classes"][0])
    others = _from_other_seeds(inquiry, plain, label, judging.stability_seeds)
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
            for each in inquiry.predictors
        ]
        ablated = ablate(scores, inquiry, segments, label, judging.top_k)
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
        judged |= _colour_consistency(inquiry, plain, label)
    if judging.planted_cue:
        judged |= _planted_cue(inquiry, next(iter(plain.values())), object_mask)
    return judged


def painted(predict: Predictor, colour: Sequence[float]) -> Predictor:
    """The same network, shown whole pictures with a constant RGB colour in [0, 1] in the hole."""

    def paint(images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
        fill = images.new_tensor(colour)[:, None, None]
        return predict(torch.where(visible, images, fill), torch.ones_like(visible), keys)

    return paint


def _colour_consistency(inquiry: Inquiry, partitions: Mapping[str, Segments], label: int) -> Arrays:
    in_colours = [[painted(of_network[0], colour) for colour in FILL_COLOURS] for of_network in inquiry.predictors]
    found = explain_image(replace(inquiry, predictors=in_colours), partitions, [label])
    return {
        f"{name}/{explainer}/judged/colour_consistency": np.array(
            [[mean_rank_correlation(each[..., 0])] for each in found[f"{name}/{explainer}/scores"]]
        )
        for name, explainer in itertools.product(partitions, inquiry.plan.explainers)
    }


def _planted_cue(inquiry: Inquiry, segments: Segments, object_mask: BoolArray) -> Arrays:
    """Explanations of the class that a texture makes each network predict, NaN where none does."""
    predictors, plan = inquiry.predictors, inquiry.plan
    places = {each: np.full((len(predictors), len(predictors[0]), 2), np.nan) for each in plan.explainers}
    for number, of_network in enumerate(predictors):
        cue = plant_cue(inquiry.key, inquiry.image, object_mask, of_network[0], plan.batch_size)
        if cue is None:
            continue
        partition = {CUE: segments.with_first(cue.inside)}
        found = explain_image(replace(inquiry, image=cue.image, predictors=[of_network]), partition, [cue.label])
        for explainer, of in places.items():
            of[number] = [place_of_cue(each[:, 0]) for each in found[f"{CUE}/{explainer}/scores"][0]]
    return {
        f"{CUE}/{explainer}/judged/{measure}": of[..., part]
        for explainer, of in places.items()
        for part, measure in enumerate(("cue_auc", "cue_rank"))
    }


def _from_other_seeds(inquiry: Inquiry, partitions: Mapping[str, Segments], label: int, seeds: int) -> list[Arrays]:
    drawn = tuple(each for each in inquiry.plan.explainers if each in DRAWING)
    if not drawn:
        return []
    redrawn = replace(inquiry, plan=replace(inquiry.plan, explainers=drawn))
    keys = [int(fold_in(torch.tensor(inquiry.key), seed)) for seed in range(1, seeds)]
    return [explain_image(replace(redrawn, key=key), partitions, [label]) for key in keys]


def with_own_class_alone(found: Arrays) -> Arrays:
    """The arrays of `explain_image` for the first class alone, but for those of decoys and windows.

    "<DECOYS>/classes" says which classes those are of.
    """
    kept: Arrays = {f"{DECOYS}/classes": found["classes"], **found, "classes": found["classes"][:1]}
    for name, each in found.items():
        if name == "whole" or (name.endswith(_BY_CLASS) and not name.startswith((f"{DECOYS}/", "windows/"))):
            kept[name] = each[..., :1]
    return kept
