"""Compare pairs of networks by the magnitude of a statistic, with bounds that hold for all pairs together."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from maskrobust.lm_modules.reliance.estimates.estimation import (
    Estimate,
    Interval,
    Statistic,
    WithError,
    estimate_pair,
)
from maskrobust.lm_modules.reliance.outcomes import Outcomes

Name = TypeVar("Name", bound=Hashable)

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


def compare_magnitudes(
    statistic: Statistic, pairs: Mapping[Name, Pair], *, confidence: float = 0.95
) -> dict[Name, ComparedMagnitude]:
    """How much the magnitude of each pair's first network exceeds that of its second; Holm's procedure sets the levels.

    The chance that any lower bound lies wrongly above 0 is at most 1 - confidence, and so is the chance that any upper
    bound lies wrongly below it. Each direction is a family of its own, and divides 1 - confidence by `holm_levels`.
    Bounds are Student's (`MagnitudeDifference`). A pair of which the statistic is undefined counts as one whose bounds
    clear nothing.

    Args:
        statistic: what to compute.
        pairs: pairs of networks by name.
        confidence: confidence of all bounds of one direction together, in (0, 1).

    Returns:
        Comparisons by the pair's name, in the order given.

    Raises:
        InputError: a pair differs in its number of runs, or runs cover different images.
    """
    level = 1.0 - confidence
    found = {name: magnitude_difference(statistic, *pair) for name, pair in pairs.items()}
    differences = [difference for _, difference in found.values()]
    lows = holm_levels([1.0 if each is None else each.level_to_exceed(0.0) for each in differences], level)
    highs = holm_levels([1.0 if each is None else each.level_to_fall_below(0.0) for each in differences], level)
    return {
        name: ComparedMagnitude(
            estimate if difference is None else estimate.within(difference.interval(low, high)), low, high
        )
        for (name, (estimate, difference)), low, high in zip(found.items(), lows, highs, strict=True)
    }


def magnitude_difference(
    statistic: Statistic, runs_a: Sequence[Outcomes], runs_b: Sequence[Outcomes]
) -> tuple[Estimate, "MagnitudeDifference | None"]:
    """The magnitude of one network's statistic minus that of another's; see `estimate_pair`.

    Returns:
        An estimate whose numbers are left open, and the difference; None where one of the two is undefined.

    Raises:
        InputError: networks differ in their number of runs, or runs cover different images.
    """
    found, signed = estimate_pair(statistic, runs_a, runs_b)
    return found, None if signed is None else MagnitudeDifference(*signed, max(map(abs, statistic.scale)))


@dataclass(frozen=True)
class MagnitudeDifference:
    """|a| - |b| of two numbers whose sign only says which way an effect goes.

    Magnitudes of estimates would be biased: noise around 0 has a magnitude above 0. So everything follows from the
    signed a - b and a + b, by

        |a| - |b| = max(min(a - b, a + b), min(b - a, -a - b)),

    every term at its lower bound for the lower bound, at its upper bound for the upper one. Hence the lower bound is
    above a margin exactly where a - b and a + b both are, or both lie below minus the margin, their bounds included.
    Each of the two readings "above the margin" and "below it" rests on two signed bounds that may both be wrong:
    "below" where b is near 0, "above" where the margin is small against the error. So each signed bound has half of the
    level, and whatever the signs a reading is wrong in at most its level, provided that each signed bound is wrong in
    at most its own.

    Attributes:
        minus: a - b.
        plus: a + b, of the same runs.
        largest: largest magnitude that either number can have.
    """

    minus: WithError
    plus: WithError
    largest: float = math.inf

    def interval(self, level_low: float = 0.025, level_high: float = 0.025) -> Interval:
        """The difference with its bounds.

        Args:
            level_low: one-sided level of `low`, in (0, 1].
            level_high: the same of `high`.
        """
        minus, plus = self.minus, self.plus
        both = ((minus, plus), (minus.negated(), plus.negated()))
        low = max(min(each.low(level_low / 2.0) for each in signed) for signed in both)
        high = max(min(each.high(level_high / 2.0) for each in signed) for signed in both)
        low, high = max(low, -self.largest), min(high, self.largest)
        return Interval(max(min(minus.value, plus.value), -max(minus.value, plus.value)), low, high)

    def level_to_exceed(self, margin: float) -> float:
        """The level above which `low` lies above the margin: a p-value of "at most the margin", in [0, 1]."""
        both_above = max(self.minus.level_above(margin), self.plus.level_above(margin))
        both_below = max(self.minus.negated().level_above(margin), self.plus.negated().level_above(margin))
        return min(1.0, 2.0 * min(both_above, both_below))

    def level_to_fall_below(self, margin: float) -> float:
        """The level above which `high` lies below the margin: a p-value of "at least the margin", in [0, 1]."""
        one_below = min(self.minus.negated().level_above(-margin), self.plus.negated().level_above(-margin))
        one_above = min(self.minus.level_above(-margin), self.plus.level_above(-margin))
        return min(1.0, 2.0 * max(one_below, one_above))


def holm_levels(p_values: Sequence[float], level: float) -> list[float]:
    """The level of each hypothesis' own bound, so that a bound clears exactly where Holm rejects.

    In order of p-values the one at rank i of m gets level / (m - i + 1), as long as its p-value lies below that; from
    the first one that does not, all get the level at which the procedure stopped. With a p-value that is the level
    above which a hypothesis' bound clears the margin, bounds at these levels clear the margin where Holm's procedure
    rejects, and nowhere else. The chance that any of them clears it wrongly is at most `level`, however the hypotheses
    depend on each other (Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 1979).

    Args:
        p_values: one p-value in [0, 1] for each hypothesis.
        level: level of all hypotheses together, in (0, 1).

    Returns:
        A level for each hypothesis, in the order given.
    """
    levels = [level] * len(p_values)
    rejecting, current = True, level
    for rank, place in enumerate(np.argsort(p_values, kind="stable")):
        if rejecting:
            current = level / (len(p_values) - rank)
            rejecting = p_values[place] < current
        levels[place] = current
    return levels
