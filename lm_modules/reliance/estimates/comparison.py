"""Pairs of networks compared by the magnitude of a statistic, with bounds that hold for all pairs together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.arrays import FloatArray
from maskrobust.lm_modules.reliance.estimates.bootstrap import Interval, Resampled
from maskrobust.lm_modules.reliance.estimates.estimation import Estimate, Statistic, resample_pair
from maskrobust.lm_modules.reliance.outcomes import Outcomes

ComparisonResult = Literal["above", "below", "not settled", "undefined"]

Pair = tuple[Sequence[Outcomes], Sequence[Outcomes]]
"""Outcomes of two networks on the same images, one for each seed, the seeds in the same order."""


@dataclass(frozen=True)
class ComparedMagnitude:
    """The magnitude of one network's statistic minus that of another's.

    Attributes:
        difference: the number with bounds at the levels below.
        level_low: one-sided level of its lower bound.
        level_high: one-sided level of its upper bound.
    """

    difference: Estimate
    level_low: float
    level_high: float

    def reading(self, margin: float = 0.0) -> ComparisonResult:
        """Where the interval lies: "above" the margin, "below" it, or across it, which is "not settled"."""
        interval = self.difference.interval
        if interval is None:
            return "undefined"
        if interval.low > margin:
            return "above"
        return "below" if interval.high < margin else "not settled"


def compare_magnitudes(
    statistic: Statistic,
    pairs: Mapping[str, Pair],
    *,
    margin: float = 0.0,
    confidence: float = 0.95,
    all_above: bool = False,
    replicates: int = 2000,
    seed: int = 0,
) -> dict[str, ComparedMagnitude]:
    """How much the magnitude of each pair's first network exceeds that of its second; Holm's procedure sets the levels.

    The chance that any lower bound lies wrongly above the margin is at most 1 - confidence, and so is the chance that
    any upper bound lies wrongly below it. Where lower bounds are used for one statement alone, that *all* of them lie
    above the margin, they need no correction (`all_above`): if it is false, some difference is at most the margin, and
    all bounds lie above it only if the bound of that one does (an intersection-union test; Berger, "Multiparameter
    hypothesis testing and acceptance sampling", Technometrics 1982).

    Each direction is a family of its own, and divides half of 1 - confidence by `holm_levels`: half, because a bound of
    a magnitude is wrong in up to twice its level (`MagnitudeDifference`). The statistic must be defined, too, with the
    confidence that the first of the levels leaves; a pair of which it is not counts as one whose bounds clear nothing.

    Args:
        statistic: what to compute.
        pairs: pairs of networks by name.
        margin: by how much magnitudes must differ.
        confidence: of all bounds of one direction together, in (0, 1).
        all_above: give each lower bound the whole level of its direction: the chance that all lie above the margin,
            though some difference does not, is at most 1 - confidence, but that of a single one holds for it alone.
        replicates: number of bootstrap resamples; the first level should leave some of them beyond the bound.
        seed: decides the resamples.

    Returns:
        Comparisons by the pair's name, in the order given.

    Raises:
        InputError: a network has no run, a pair differs in its number of runs, or runs cover different images.
    """
    level = (1.0 - confidence) / 2.0
    strictest = 1.0 - 2.0 * level / max(1, len(pairs))
    found: dict[str, tuple[Estimate, MagnitudeDifference | None]] = {}
    for name, (runs_a, runs_b) in pairs.items():
        estimate, resampled = resample_pair(
            statistic, runs_a, runs_b, replicates=replicates, seed=seed, confidence=strictest
        )
        found[name] = estimate, None if resampled is None else MagnitudeDifference(*resampled)
    differences = [difference for _, difference in found.values()]
    exceeding = [1.0 if each is None else each.level_to_exceed(margin) for each in differences]
    lows = [level] * len(exceeding) if all_above else holm_levels(exceeding, level)
    highs = holm_levels([1.0 if each is None else each.level_to_fall_below(margin) for each in differences], level)
    return {
        name: ComparedMagnitude(
            estimate if difference is None else estimate.within(difference.interval(low, high)), low, high
        )
        for (name, (estimate, difference)), low, high in zip(found.items(), lows, highs, strict=True)
    }


@dataclass(frozen=True, eq=False)
class MagnitudeDifference:
    """|a| - |b| of two numbers whose sign only says which way an effect goes.

    Resampled magnitudes would be biased: noise around 0 has a magnitude above 0. So everything follows from the signed
    a - b and a + b, by

        |a| - |b| = max(min(a - b, a + b), min(b - a, -a - b)),

    every term at its lower bound for the lower bound, at its upper bound for the upper one. Hence the lower bound is
    above a margin exactly where a - b and a + b both are, or both lie below minus the margin, their bounds included.
    Each of the two readings "above the margin" and "below it" rests on two signed bounds that may both be wrong, so
    whatever the signs it is wrong in at most twice the level of its bound, provided that each signed bound is wrong in
    at most that level. Where a is clearly positive and b clearly not negative, the interval is that of a - b, and
    the level itself holds.

    Attributes:
        minus: a - b.
        plus: a + b, on the same resamples.
    """

    minus: Resampled
    plus: Resampled

    def interval(self, level_low: float, level_high: float) -> Interval:
        """The difference with its bounds.

        Args:
            level_low: fraction in (0, 0.5] of resamples of each signed number below its lower bound, for `low`.
            level_high: fraction above its upper bound, for `high`.
        """
        minus, plus = self.minus.value, self.plus.value
        low_minus, high_minus, low_plus, high_plus = self._bounds(level_low)
        low = max(min(low_minus, low_plus), -max(high_minus, high_plus))
        low_minus, high_minus, low_plus, high_plus = self._bounds(level_high)
        high = max(min(high_minus, high_plus), -max(low_minus, low_plus))
        return Interval(max(min(minus, plus), -max(minus, plus)), low, high)

    def level_to_exceed(self, margin: float) -> float:
        """The level above which `low` lies above the margin; twice of it is a p-value of "at most the margin"."""
        minus, plus = self.minus.replicates, self.plus.replicates
        both_above = max(tail_level(minus, margin), tail_level(plus, margin))
        both_below = max(tail_level(-minus, margin), tail_level(-plus, margin))
        return min(both_above, both_below)

    def level_to_fall_below(self, margin: float) -> float:
        """The level above which `high` lies below the margin; twice of it is a p-value of "at least the margin"."""
        minus, plus = self.minus.replicates, self.plus.replicates
        one_below = min(tail_level(-minus, -margin), tail_level(-plus, -margin))
        one_above = min(tail_level(minus, -margin), tail_level(plus, -margin))
        return max(one_below, one_above)

    def _bounds(self, level: float) -> list[float]:
        """Lower and upper bound of a - b, then those of a + b, each at `level`."""
        signed = np.stack([self.minus.replicates, self.plus.replicates])
        bounds: list[float] = np.quantile(signed, [level, 1.0 - level], axis=1).T.ravel().tolist()
        return bounds


def tail_level(replicates: FloatArray, bound: float) -> float:
    """The level in [0, 1] above which a quantile of the replicates exceeds `bound`.

    The inverse of `np.quantile`, which goes linearly from each replicate to the next: for levels above 0,
    ``np.quantile(replicates, level) > bound`` holds where level > tail_level, and nowhere else.

    Args:
        replicates: (R,) in any order.
        bound: to exceed.
    """
    ordered = np.sort(replicates)
    below = int(np.searchsorted(ordered, bound, side="right"))
    if below in (0, len(ordered)):
        return float(below > 0)
    step = (bound - ordered[below - 1]) / (ordered[below] - ordered[below - 1])
    return float((below - 1 + step) / (len(ordered) - 1))


def holm_levels(p_values: Sequence[float], level: float) -> list[float]:
    """The level of each hypothesis' own bound, so that a bound clears exactly where Holm rejects.

    In order of p-values the one at rank i of m gets level / (m - i + 1), as long as its p-value lies below that; from
    the first one that does not, all get the level at which the procedure stopped. With a p-value that is the level
    above which a hypothesis' bound clears the margin, bounds at these levels clear the margin where Holm's procedure
    rejects, and nowhere else. The chance that any of them clears it wrongly is at most `level`, however the hypotheses
    depend on each other (Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 1979).

    Args:
        p_values: one in [0, 1] for each hypothesis.
        level: of all hypotheses together, in (0, 1).

    Returns:
        A level for each hypothesis, in the order given.

    Raises:
        InputError: level is outside (0, 1).
    """
    if not 0.0 < level < 1.0:
        raise InputError(f"level must lie between 0 and 1, got {level}; 0.025 is usual for one direction.")
    levels = [level] * len(p_values)
    rejecting, current = True, level
    for rank, place in enumerate(np.argsort(p_values, kind="stable")):
        if rejecting:
            current = level / (len(p_values) - rank)
            rejecting = p_values[place] < current
        levels[place] = current
    return levels
