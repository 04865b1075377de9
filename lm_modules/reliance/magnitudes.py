"""The difference of two magnitudes from signed figures that were resampled together: its interval at any level."""

from dataclasses import dataclass

import numpy as np

from maskrobust.lm_modules.reliance.arrays import FloatArray
from maskrobust.lm_modules.reliance.statistics import Estimate, Resampled


@dataclass(frozen=True, eq=False)
class MagnitudeDifference:
    """|a| - |b| of two figures whose sign only says which way an effect goes.

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

    def interval(self, level_low: float, level_high: float) -> Estimate:
        """The figure with its bounds.

        Args:
            level_low: share in (0, 0.5] of resamples of each signed figure below its lower bound, for `low`.
            level_high: share above its upper bound, for `high`.
        """
        minus, plus = self.minus.value, self.plus.value
        low_minus, high_minus, low_plus, high_plus = self._bounds(level_low)
        low = max(min(low_minus, low_plus), -max(high_minus, high_plus))
        low_minus, high_minus, low_plus, high_plus = self._bounds(level_high)
        high = max(min(high_minus, high_plus), -max(low_minus, low_plus))
        return Estimate(max(min(minus, plus), -max(minus, plus)), low, high)

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
