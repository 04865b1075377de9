"""Judge explanations of one image, and average many images: means over objects, and paired differences."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from maskrobust.lm_modules.explanation.explained import ExplainedImage, Judged
from maskrobust.lm_modules.reliance.arrays import BoolArray, FloatArray, IntArray, rankable
from maskrobust.lm_modules.reliance.catalogue import Described
from maskrobust.lm_modules.reliance.estimates.bootstrap import bootstrap_means, percentile_interval, tail_level
from maskrobust.lm_modules.reliance.estimates.comparison import holm_levels
from maskrobust.lm_modules.reliance.results import Row

JUDGES = {
    each.name: each
    for each in (
        Described(
            "fidelity", "Fidelity", "R² of the surrogate on queries it was not fitted to; below 0 counts as 0.",
            "number", "high",
        ),
        Described(
            "coverage", "Coverage (cosine)",
            "Cosine, over pixels, between the scores and the mean-centred object mask; 0: scores do not follow it.",
            "number", "high",
        ),
        Described(
            "jaccard", "Jaccard",
            "Jaccard index of the n segments that lie on the object by more than half with the n highest-scored.",
            "number", "high",
        ),
    )
}  # fmt: skip
"""The measures of explanations by name."""

FEW_OBJECTS = 20
"""Below so many, bootstrap intervals are too narrow, and no methods are told apart."""

_LEVEL = 0.05
_REPLICATES = 2000


def judge_image(explained: ExplainedImage, object_mask: BoolArray) -> dict[Judged, FloatArray]:
    """Judge the explanations of an image's first class.

    Coverage is that of Balasubramanian and Feizi, "Towards Improved Input Masking for CNNs" (ICCV 2023).

    Args:
        explained: the explanations, of R networks under T masking methods.
        object_mask: (H, W) bool, True on the object.

    Returns:
        Values (R, T), NaN where undefined. Explanations without a surrogate have no fidelity.
    """
    found = {}
    for about, explanation in explained.explanations.items():
        labels, scores = explained.segments[about.partition].ravel(), explanation.scores[..., 0]
        sizes = np.bincount(labels).astype(np.float64)
        fractions = np.bincount(labels, weights=object_mask.ravel()) / sizes
        if about.explainer == "lime":
            found[Judged(*about, "fidelity")] = np.maximum(explanation.r_squared[..., 0], 0)
        found[Judged(*about, "coverage")] = np.apply_along_axis(centred_cosine, -1, scores, fractions, sizes)
        found[Judged(*about, "jaccard")] = np.apply_along_axis(overlap_of_highest, -1, scores, fractions)
    return found


def centred_cosine(scores: FloatArray, fractions: FloatArray, areas: FloatArray) -> float:
    """Cosine, over pixels, of the scores with the object's fractions minus their mean over pixels.

    With weights w (areas over their sum) it is sum(w s c) / sqrt(sum(w s^2) sum(w c^2)), where c = f - sum(w f). Equal
    scores, and others that do not follow the object, give 0. Scores that are 0 outside the object and equal on it give
    sqrt(1 - a), where a is the object's fraction of the image; 1 needs negative scores outside.

    Args:
        scores: s, (M,).
        fractions: f, (M,); of each segment on the object.
        areas: (M,), pixels of each segment.

    Returns:
        NaN where the scores are 0 everywhere or the fractions are the same everywhere.
    """
    weights = areas / areas.sum()
    centred = fractions - weights @ fractions
    length = float(np.sqrt((weights @ scores**2) * (weights @ centred**2)))
    return float((weights * scores) @ centred) / length if length > 0 else float("nan")


def overlap_of_highest(scores: FloatArray, fractions: FloatArray) -> float:
    """Overlap over union of the k highest scores with the k segments that lie on the object by more than half.

    NaN where there is no such segment.
    """
    on_object = fractions > 0.5
    count = int(on_object.sum())
    if count == 0:
        return float("nan")
    highest = np.zeros_like(on_object)
    highest[np.argsort(-rankable(scores), kind="stable")[:count]] = True
    return float((highest & on_object).sum() / (highest | on_object).sum())


def rank_correlation(first: FloatArray, second: FloatArray) -> float:
    """Spearman's, of the scores (M,) of two explanations, made `rankable`; NaN where one is then constant."""
    first, second = rankable(first), rankable(second)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(stats.spearmanr(first, second).statistic)


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


def judged_rows(
    images: Sequence[ExplainedImage], objects: IntArray, networks: Sequence[str], methods: Sequence[str]
) -> Iterator[Row]:
    """Every measure of every explainer: a row for each masking method, and one for each pair of methods.

    Pictures of one object are averaged first, and objects resampled. Differences are paired on objects; those of one
    measure of one network's explainer share their confidence by Holm's procedure.

    Args:
        images: judged.
        objects: (N,) the object that each shows.
        networks: R names.
        methods: T names.
    """
    order = {name: place for place, name in enumerate(JUDGES)}
    found = {about for image in images for about in image.judged}
    for about in sorted(found, key=lambda each: (order[each.judge], each)):
        shape = next(image.judged[about].shape for image in images if about in image.judged)
        missing = np.full(shape, np.nan)
        values = _by_object(np.array([image.judged.get(about, missing) for image in images]), objects)
        parameters = {"segments": about.partition, "explainer": about.explainer}
        for number, network in enumerate(networks):
            yield from _rows(values[:, number], about.judge, network, methods, parameters)


def _by_object(values: FloatArray, objects: IntArray) -> FloatArray:
    """Means over the pictures (N, ...) of each object that are not NaN, (objects, ...)."""
    with np.errstate(invalid="ignore"):
        means = []
        for each in np.unique(objects):
            own = values[objects == each]
            counted = ~np.isnan(own)
            means.append(np.where(counted, own, 0).sum(axis=0) / counted.sum(axis=0))
    return np.array(means)


def _difference(first: FloatArray, second: FloatArray) -> FloatArray:
    """First minus second; 0 where they differ by rounding alone, 1e-6 of the larger."""
    found = first - second
    return np.where(np.abs(found) > 1e-6 * np.maximum(np.abs(first), np.abs(second)), found, 0.0)


def _rows(
    values: FloatArray, judge: str, network: str, methods: Sequence[str], parameters: Mapping[str, str | float]
) -> Iterator[Row]:
    """Rows of one measure, from its values (objects, T)."""
    counted = ~np.isnan(values).any(axis=1)  # of all methods, so that they are compared on the same objects
    left_out = int((~counted).sum())

    def row(method: str, value: float | None, interval: tuple[float, float] | None, **others: Any) -> Row:
        low, high = interval or (None, None)
        return Row(network, method, judge, value, low, high, int(counted.sum()), left_out, **others)

    if not counted.any():
        for method in methods:
            reason = "undefined because the data do not allow it for any object."
            yield row(method, None, None, parameters=dict(parameters), undefined_because=reason)
        return
    resampled = bootstrap_means(values[counted].T, _REPLICATES)  # (replicates, T)
    means = values[counted].mean(axis=0)
    for place, method in enumerate(methods):
        found = percentile_interval(float(means[place]), resampled[:, place])
        yield row(method, found.value, (found.low, found.high), parameters=dict(parameters))
    pairs = [*itertools.combinations(range(len(methods)), 2)]
    differences = [_difference(resampled[:, first], resampled[:, second]) for first, second in pairs]
    levels = holm_levels([2 * min(tail_level(each, 0), tail_level(-each, 0)) for each in differences], _LEVEL)
    for (first, second), replicated, level in zip(pairs, differences, levels, strict=True):
        low, high = np.quantile(replicated, [level / 2, 1 - level / 2]).tolist()
        reading = "above" if low > 0 else "below" if high < 0 else "not settled"
        reading = reading if counted.sum() >= FEW_OBJECTS else "too few objects"
        of = {**parameters, "minus": methods[second]}
        about = {"parameters": of, "level_low": level / 2, "level_high": level / 2}
        yield row(methods[first], float(means[first] - means[second]), (low, high), reading=reading, **about)
