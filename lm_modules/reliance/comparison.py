"""Several arms against one, by the magnitude of a measure, with bounds that hold for all of them together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from maskrobust.lm_modules.reliance.estimation import Finding, resample_magnitude_difference
from maskrobust.lm_modules.reliance.holm import holm_levels
from maskrobust.lm_modules.reliance.magnitudes import MagnitudeDifference
from maskrobust.lm_modules.reliance.measures import Measure
from maskrobust.lm_modules.reliance.outcomes import Outcomes


@dataclass(frozen=True)
class ComparedMagnitude:
    """One of several arms against the common one.

    Attributes:
        difference: magnitude of the arm's figure minus that of the common arm's.
        level_low: one-sided level of its lower bound.
        level_high: one-sided level of its upper bound.
    """

    difference: Finding
    level_low: float
    level_high: float


def compare_magnitudes(
    measure: Measure,
    arms: Mapping[str, Sequence[Outcomes]],
    common: Sequence[Outcomes],
    *,
    margin: float,
    confidence: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
) -> dict[str, ComparedMagnitude]:
    """How much each arm's magnitude exceeds that of a common arm; Holm's procedure gives each bound its level.

    The chance that any lower bound lies wrongly above the margin is at most 1 - confidence, and so is the chance that
    any upper bound lies wrongly below it. Each direction is a family of its own, and divides half of 1 - confidence by
    `holm_levels`: half, because a bound of a magnitude is wrong in up to twice its level (`MagnitudeDifference`). The
    figures must be defined, too, with the confidence that the first of the levels leaves; an arm whose figure is not
    counts as one whose bounds clear nothing.

    Args:
        measure: what to compute.
        arms: outcomes by the arm's name, one for each seed, at least one.
        common: outcomes of the common arm on the same images, of the same seeds in the same order.
        margin: by how much magnitudes must differ.
        confidence: of all bounds of one direction together, in (0, 1).
        replicates: number of bootstrap resamples; the first level should leave some of them beyond the bound.
        seed: decides the resamples.

    Returns:
        Comparisons by the arm's name, in the order given.

    Raises:
        InputError: an arm has no run, arms differ in their number of runs, or runs cover different images.
    """
    level = (1.0 - confidence) / 2.0
    strictest = 1.0 - 2.0 * level / max(1, len(arms))
    found = {
        name: resample_magnitude_difference(
            measure, runs, common, replicates=replicates, seed=seed, confidence=strictest
        )
        for name, runs in arms.items()
    }
    differences = [difference for _, difference in found.values()]
    lows = holm_levels([1.0 if each is None else each.level_to_exceed(margin) for each in differences], level)
    highs = holm_levels([1.0 if each is None else each.level_to_fall_below(margin) for each in differences], level)
    return {
        name: ComparedMagnitude(_with_interval(finding, difference, low, high), low, high)
        for (name, (finding, difference)), low, high in zip(found.items(), lows, highs, strict=True)
    }


def _with_interval(finding: Finding, difference: MagnitudeDifference | None, low: float, high: float) -> Finding:
    return finding if difference is None else replace(finding, estimate=difference.interval(low, high))
