"""Holm's step-down procedure for several bounds at once: which level each of them is computed at."""

from collections.abc import Sequence

import numpy as np

from maskrobust.errors import InputError


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
