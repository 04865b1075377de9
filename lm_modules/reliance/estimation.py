"""From a measure to a figure with its interval: of one run, of several seeds, or of the difference between two arms."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lm_modules.reliance.arrays import FloatArray
from lm_modules.reliance.measures import Measure
from lm_modules.reliance.outcomes import Outcomes
from lm_modules.reliance.statistics import Estimate, hierarchical_bootstrap_means, percentile_estimate


@dataclass(frozen=True)
class Finding:
    """One figure of a report.

    Attributes:
        name: the measure's name.
        estimate: the figure and its interval; None where it is undefined.
        images: number of images it rests on.
        left_out: number of images left out: no object, no room for the companion blob, or no swap partner.
        undefined_because: one sentence; None where the figure is defined.
    """

    name: str
    estimate: Estimate | None
    images: int
    left_out: int
    undefined_because: str | None = None


def estimate(
    measure: Measure, runs: Sequence[Outcomes], *, replicates: int = 2000, seed: int = 0, confidence: float = 0.95
) -> Finding:
    """A measure's figure over the runs of one arm.

    With one run the interval is over images, with several over seeds crossed with images.

    Args:
        measure: what to compute.
        runs: outcomes on the same images, one for each seed, at least one.
        replicates: number of bootstrap resamples.
        seed: decides the resamples; equal seeds resample equally for every measure with equally many images.
        confidence: share in (0, 1) of resamples inside the interval.

    Raises:
        ValueError: there is no run, or runs cover different images.
    """
    columns, left_out = _stack(measure, runs)
    return _find(measure, columns, left_out, 1, replicates, seed, confidence)


def estimate_difference(
    measure: Measure,
    runs_a: Sequence[Outcomes],
    runs_b: Sequence[Outcomes],
    *,
    replicates: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Finding:
    """A measure's figure over the runs of arm A minus that of arm B, paired on images and on seeds.

    Args:
        measure: what to compute.
        runs_a: outcomes of arm A, one for each seed, at least one.
        runs_b: outcomes of arm B on the same images, of the same seeds in the same order.
        replicates: number of bootstrap resamples.
        seed: decides the resamples.
        confidence: share in (0, 1) of resamples inside the interval.

    Raises:
        ValueError: there is no run, arms differ in their number of runs, or runs cover different images.
    """
    if len(runs_a) != len(runs_b):
        raise ValueError(
            f"both arms must have a run for each seed, got {len(runs_a)} and {len(runs_b)}; leave unmatched seeds out."
        )
    stacked, left_out = _stack(measure, [*runs_a, *runs_b])
    columns = np.concatenate(np.split(stacked, 2, axis=1))
    return _find(measure, columns, left_out, 2, replicates, seed, confidence)


def _stack(measure: Measure, runs: Sequence[Outcomes]) -> tuple[FloatArray, int]:
    """Columns (C, S, N) of all runs, and the number of images left out."""
    if not runs:
        raise ValueError("a figure needs the outcomes of at least one run, got none.")
    columns = [measure.columns(run) for run in runs]
    for other in columns[1:]:
        if not np.array_equal(other.ids, columns[0].ids):
            raise ValueError(
                "runs to compare must be evaluated on the same images, got "
                f"{len(columns[0].ids)} and {len(other.ids)} images with different ids; evaluate them on one split."
            )
    return np.stack([each.values for each in columns], axis=1), columns[0].left_out


def _find(
    measure: Measure, columns: FloatArray, left_out: int, arms: int, replicates: int, seed: int, confidence: float
) -> Finding:
    """The figure of the first arm, minus that of the second where there are two; `columns` is (arms * C, S, N)."""
    images = columns.shape[2]
    if images == 0:
        return Finding(measure.name, None, 0, left_out, "undefined because no image is valid for it.")
    resampled = np.split(hierarchical_bootstrap_means(columns, replicates, seed), arms, axis=-1)
    observed = np.split(columns.mean(axis=(1, 2)), arms)
    if measure.denominator is not None:
        for means, replicate_means in zip(observed, resampled, strict=True):
            bound = percentile_estimate(
                measure.denominator(means).item(), measure.denominator(replicate_means), confidence
            )
            if bound.low <= 0.0:
                reason = (
                    f"undefined because {measure.denominator_name} is {bound.value:.3f}, "
                    f"interval {bound.low:.3f} to {bound.high:.3f}, which does not lie above 0."
                )
                return Finding(measure.name, None, images, left_out, reason)
    value = measure.combine(observed[0])
    figures = measure.combine(resampled[0])
    if arms == 2:
        value, figures = value - measure.combine(observed[1]), figures - measure.combine(resampled[1])
    return Finding(measure.name, percentile_estimate(value.item(), figures, confidence), images, left_out)
