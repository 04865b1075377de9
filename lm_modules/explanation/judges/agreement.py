"""The judges `fidelity`, `stability` and `agreement`: with the network, with other seeds, with other explainers."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy import stats

from maskrobust.augment import fold_in
from maskrobust.lm_modules.explanation.explained import Explained, ExplainedImage
from maskrobust.lm_modules.explanation.explainers.registry import find_explainer
from maskrobust.lm_modules.explanation.explaining import explain_image
from maskrobust.lm_modules.explanation.judges.registry import ImageToJudge, for_each, judge
from maskrobust.lm_modules.reliance.arrays import FloatArray, rankable


def rank_correlation(first: FloatArray, second: FloatArray) -> float:
    """Spearman's, of the scores (M,) of two explanations, made `rankable`; NaN where one is then constant."""
    first, second = rankable(first), rankable(second)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(stats.spearmanr(first, second).statistic)


def mean_rank_correlation(scores: FloatArray) -> float:
    """The mean over all pairs of T explanations (T, M); NaN where there is one alone, or one is constant."""
    pairs = [rank_correlation(first, second) for first, second in itertools.combinations(scores, 2)]
    return float(np.mean(pairs)) if pairs else float("nan")


def evenness(scores: FloatArray) -> float:
    """How far all M segments count alike, in [0, 1]: the squared mean score over the mean squared score.

    1 where hiding any segment has the same effect, so that the scores show the hole and not the picture; about 0 where
    scores of both signs balance; NaN where all are 0.

    Args:
        scores: (M,) of one explanation, around 0.
    """
    largest = np.abs(scores).max()
    scaled = scores / largest if largest > 0 else scores
    return float(scaled.mean() ** 2 / np.square(scaled).mean()) if largest > 0 else float("nan")


@judge(
    title="Fidelity",
    definition="R² of the surrogate on queries it was not fitted to; below 0 counts as 0.",
    goal="high",
)
def fidelity(image: ImageToJudge, about: Explained) -> FloatArray | None:
    """The R^2 of the explanation."""
    r_squared = image.explained.explanations[about].r_squared
    if r_squared is None or not find_explainer(about.explainer).has_surrogate:
        return None
    return np.maximum(r_squared[..., 0], 0)


@judge(title="Stability", definition="Mean rank correlation of the scores between explanations from other seeds.")
def stability(image: ImageToJudge, about: Explained) -> FloatArray | None:
    """By `mean_rank_correlation`."""
    others = image.once("other seeds", lambda: from_other_seeds(image))
    if not find_explainer(about.explainer).draws or not others:
        return None
    again = [each.explanations[about].scores[..., 0] for each in others]
    return _over_places([image.scores(about), *again], mean_rank_correlation)


@judge(title="Agreement", definition="Mean rank correlation of the scores with those of the other explainers.")
def agreement(image: ImageToJudge, about: Explained) -> FloatArray | None:
    """By `rank_correlation`."""
    explainers = image.request.plan.explainers
    others = [image.scores(about._replace(explainer=each)) for each in explainers if each != about.explainer]
    if not others:
        return None

    def mean_with_first(scores: FloatArray) -> float:
        return float(np.mean([rank_correlation(scores[0], other) for other in scores[1:]]))

    return _over_places([image.scores(about), *others], mean_with_first)


def from_other_seeds(image: ImageToJudge) -> list[ExplainedImage]:
    """The explanations again, by the explainers that draw, from all but the first of `plan.stability_seeds`."""
    request = image.request
    drawing = tuple(each for each in request.plan.explainers if find_explainer(each).draws)
    if not drawing:
        return []
    plan = replace(request.plan, explainers=drawing)
    keys = [int(fold_in(torch.tensor(request.key), seed)) for seed in range(1, image.plan.stability_seeds)]
    return [explain_image(replace(request, plan=plan, key=key), image.partitions, [image.label]) for key in keys]


def _over_places(explanations: Sequence[FloatArray], measure: Callable[[FloatArray], float]) -> FloatArray:
    """A measure of scores (K, M) at each network and method, of K explanations (R, T, M) each: (R, T)."""
    stacked = np.stack(explanations, axis=2)
    return for_each(stacked, measure)
