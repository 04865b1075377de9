"""The figures that are followed during training: what a plan asks, as numbers with their intervals."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from maskrobust.lm_modules.reliance import (
    Measure,
    Outcomes,
    ProbeOutcomes,
    ReliancePlan,
    carried_information,
    curve_accuracy_score,
    estimate,
    hidden_pixel_sensitivity,
    probe_accuracy,
    retention,
    silhouette_leak,
    swap_pull,
    transfer_accuracy,
    used_share,
    worst_family,
)


class Figure(NamedTuple):
    """One number with the ends of its 95 % interval over images; the hidden-pixel sensitivity has none.

    Attributes:
        name: the measure's name in letters, digits, points and underscores.
        value: the figure itself.
        low: lower end; None where there is no interval.
        high: upper end; None where there is no interval.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None

    def scalars(self) -> dict[str, float]:
        """The value by name, and the ends of the interval with "_low" and "_high" behind the name."""
        ends = {"": self.value, "_low": self.low, "_high": self.high}
        return {f"{self.name}{end}": number for end, number in ends.items() if number is not None}


def plan_measures(plan: ReliancePlan, probe: ProbeOutcomes | None) -> list[Measure]:
    """What is made of the conditions of a plan: of a curve its score, of the transfer matrix its worst cell, too.

    Args:
        plan: what is asked.
        probe: the mask-only probe on the same images; None leaves its accuracy and the used share out.
    """
    measures = [silhouette_leak(), swap_pull()] if plan.shapes else []
    if plan.shapes and probe is not None:
        measures += [probe_accuracy(probe), used_share(probe)]
    if plan.shapes and plan.features:
        measures.append(carried_information())
    measures += [retention(fraction) for fraction in plan.hidden_fractions]
    measures += [
        curve_accuracy_score(family, order, plan.curve_fractions)
        for family in plan.curve_families
        for order in plan.curve_orders
    ]
    measures += [transfer_accuracy(family) for family in plan.transfer_families]
    return [*measures, worst_family(plan.transfer_families)] if plan.transfer_families else measures


def plan_figures(
    plan: ReliancePlan, outcomes: Outcomes, probe: ProbeOutcomes | None, *, replicates: int, seed: int
) -> Iterator[Figure]:
    """The figures of one masking method, without those that are undefined.

    Args:
        plan: what was asked.
        outcomes: of all batches and processes, features turned into predictions.
        probe: the mask-only probe on the same images, or None.
        replicates: bootstrap resamples behind each interval.
        seed: decides the resamples.
    """
    for measure in plan_measures(plan, probe):
        found = estimate(measure, [outcomes], replicates=replicates, seed=seed).estimate
        if found is not None:
            yield Figure(re.sub(r"[^\w.]+", "_", measure.name), *found)
    sensitivity = hidden_pixel_sensitivity(outcomes)
    if not math.isnan(sensitivity):
        yield Figure("hidden_pixel_sensitivity", sensitivity)
