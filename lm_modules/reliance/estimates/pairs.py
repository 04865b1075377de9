"""The mean over pairs of images that share hosts and donors, with an interval that counts shared ones as dependent."""

import numpy as np
from numpy.typing import ArrayLike

from maskrobust.lm_modules.reliance.arrays import FloatArray
from maskrobust.lm_modules.reliance.estimates.bootstrap import Interval
from maskrobust.lm_modules.reliance.estimates.estimation import Part, WithError

_MOST_SHARE = 0.5
"""Largest share of the pairs that a host or donor is corrected for: one that takes part in all cannot be left out."""


def mean_over_pairs(values: FloatArray, *roles: ArrayLike) -> WithError:
    """The mean over pairs, with seeds, and those who take part in a pair, random.

    With e the mean over seeds minus the mean of all, T the sum of e over the pairs of one who takes part, s the share
    of the pairs that are theirs, and m the number who take part in a pair,

        V = n / (n - 1) max(sum_roles sum (T / (1 - s))^2 - (m - 1) sum e^2, sum e^2) / M^2

    for M pairs, and n the smallest number of those in a role, at n / 2 - 1 degrees of freedom. Dividing by 1 - s stands
    for leaving one out: without it V is too small where few take part. Where all values of all pairs are equal, V is 0.

    Args:
        values: (seeds, M), or (M,) for one seed; M at least 1.
        roles: who takes part, any integers: (M,) one, or (M, 2) two that are exchangeable, such as donors.
    """
    by_seed = np.atleast_2d(values)
    pairs = by_seed.shape[1]
    mean = float(by_seed.mean())
    e = by_seed.mean(axis=0) - mean
    own = float((e**2).sum())
    total, members = 0.0, 0
    counts: list[int] = []
    for role in roles:
        one, *others = np.asarray(role).reshape(pairs, -1).T
        who = np.unique([one, *others], return_inverse=True)[1].reshape(-1)
        times = 1 + len(others)
        share = np.bincount(who) / pairs
        sums = np.bincount(who, np.tile(e, times))
        total += float(((sums / (1.0 - share.clip(max=_MOST_SHARE))) ** 2).sum())
        members, counts = members + times, [*counts, len(sums)]
    n = min(counts)
    variance = max(total - (members - 1) * own, own) * n / max(n - 1, 1) / pairs**2
    of_seeds, seeds = by_seed.mean(axis=1), len(by_seed)
    return WithError(
        mean,
        Part(float(of_seeds.var(ddof=1) / seeds) if seeds > 1 else 0.0, max(seeds - 1.0, 1.0)),
        Part(variance, max(1.0, n / 2.0 - 1.0)),
    )


def interval_over_pairs(values: FloatArray, lowest: float, highest: float, *roles: ArrayLike) -> Interval:
    """The mean of values in [lowest, highest], with its 95 % interval.

    Where all values are equal, another may still be rare: for n in the smallest role the interval reaches as far as the
    exact bound of a fraction that is 0 in n (Clopper and Pearson, Biometrika 1934), 1 - 0.025^(1 / n), of the way to
    either end.

    Args:
        values: (seeds, M), or (M,) for one seed; M at least 1.
        lowest: smallest value that there can be.
        highest: largest one.
        roles: see `mean_over_pairs`.
    """
    value, low, high = mean_over_pairs(values, *roles).interval()
    if values.min() == values.max():
        unseen = 1.0 - 0.025 ** (1.0 / min(len(np.unique(role)) for role in roles))
        low, high = value - unseen * (value - lowest), value + unseen * (highest - value)
    return Interval(value, max(low, lowest), min(high, highest))
