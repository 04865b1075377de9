"""Judge the explanations of one image, and average many images: means over objects, and paired differences."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from maskrobust.lm_modules.explanation.explained import ExplainedImage, Judged
from maskrobust.lm_modules.explanation.judges.ablation import ablated
from maskrobust.lm_modules.explanation.judges.registry import JUDGES, ImageToJudge, chosen_judges
from maskrobust.lm_modules.reliance.arrays import FloatArray, IntArray
from maskrobust.lm_modules.reliance.estimates.bootstrap import (
    bootstrap_means,
    percentile_interval,
    tail_level,
)
from maskrobust.lm_modules.reliance.estimates.comparison import holm_levels
from maskrobust.lm_modules.reliance.results import Row

CIRCULAR = "circular"
"""Reading of a cell of deletion or insertion that is evaluated under the method that it was explained under."""

FEW_OBJECTS = 20
"""Below so many, bootstrap intervals are too narrow, and no methods are told apart."""

_LEVEL = 0.05
_OF_CURVES = {"deletion", "insertion", "insertion_minus_deletion"}


def judge_image(image: ImageToJudge) -> ExplainedImage:
    """Judge the explanations of one image by the measures of its plan.

    Returns:
        What was explained, with the judgements and the curves of deletion and insertion. Where a measure does not
        apply, there is no entry.
    """
    found, judges = image.explained, chosen_judges(image.plan.judges)
    with_curves = not _OF_CURVES.isdisjoint(each.name for each in judges)
    for about in found.explanations:
        for each in judges:
            values = each.function(image, about)
            members = values if isinstance(values, Mapping) else {(): values}
            found.judged |= {
                Judged(*about, each.name, key): value for key, value in members.items() if value is not None
            }
        if with_curves:
            for which in ("deletion", "insertion"):
                found.curves[about, which] = ablated(image, about)[f"{which}_curve"]
    return found


def judged_rows(
    images: Sequence[ExplainedImage],
    objects: IntArray,
    networks: Sequence[str],
    methods: Sequence[str],
    *,
    replicates: int = 2000,
) -> Iterator[Row]:
    """Every measure of every explainer: a row for each masking method, and one for each pair of methods.

    Pictures of one object are averaged first, and objects resampled. Differences are paired on objects; those of one
    measure of one network's explainer share their confidence by Holm's procedure.

    Args:
        images: judged.
        objects: (N,) the object that each shows.
        networks: R names.
        methods: T names.
        replicates: replicates of the bootstrap.
    """
    order = {name: place for place, name in enumerate(JUDGES)}
    found = {about for image in images for about in image.judged}
    for about in sorted(found, key=lambda each: (order[each.judge], each)):
        shape = next(image.judged[about].shape for image in images if about in image.judged)
        missing = np.full(shape, np.nan)
        values = _by_object(np.array([image.judged.get(about, missing) for image in images]), objects)
        parameters = {"segments": about.partition, "explainer": about.explainer, **dict(about.parameters)}
        for number, network in enumerate(networks):
            yield from _rows(values[:, number], about.judge, network, methods, parameters, replicates)


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
    values: FloatArray,
    judge: str,
    network: str,
    methods: Sequence[str],
    parameters: Mapping[str, str | float],
    replicates: int,
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
    resampled = bootstrap_means(values[counted].T, replicates)  # (replicates, T)
    means = values[counted].mean(axis=0)
    for place, method in enumerate(methods):
        found = percentile_interval(float(means[place]), resampled[:, place])
        reading = CIRCULAR if parameters.get("evaluated_under") == method else ""
        yield row(method, found.value, (found.low, found.high), parameters=dict(parameters), reading=reading)
    pairs = [*itertools.combinations(range(len(methods)), 2)]
    differences = [_difference(resampled[:, first], resampled[:, second]) for first, second in pairs]
    levels = holm_levels([2 * min(tail_level(each, 0), tail_level(-each, 0)) for each in differences], _LEVEL)
    for (first, second), replicated, level in zip(pairs, differences, levels, strict=True):
        low, high = np.quantile(replicated, [level / 2, 1 - level / 2]).tolist()
        reading = "above" if low > 0 else "below" if high < 0 else "not settled"
        reading = reading if counted.sum() >= FEW_OBJECTS else "too few objects"
        yield row(
            methods[first],
            float(means[first] - means[second]),
            (low, high),
            parameters={**parameters, "minus": methods[second]},
            level_low=level / 2,
            level_high=level / 2,
            reading=reading,
        )
