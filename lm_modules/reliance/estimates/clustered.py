"""The variance of a mean over rows that share objects: the image's, and those whose outlines are cut out."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from maskrobust.lm_modules.reliance.arrays import FloatArray, IntArray

_DENSE = 0.1
"""Fraction of pairs of objects that share a row from which on their matrix is a plain array."""


class Design(NamedTuple):
    """Which objects rows share, and how what they share shows.

    Attributes:
        holds: (N, G) sparse matrix, 1 where a row is of an object.
        correction: what the plain estimate of a variance of objects is multiplied by; 0 where there is none.
        degrees: degrees of freedom of that variance.
    """

    holds: Any
    correction: float
    degrees: float

    def variances(self, deviations: FloatArray) -> FloatArray:
        """The part (C,) of the variance of each column's mean that is due to objects, from deviations (N, C) from it.

        It is at least what it would be if rows of one object did not depend on each other.
        """
        count, squares = len(deviations), (deviations**2).sum(axis=0)
        sharing = self.correction * (((self.holds.T @ deviations) ** 2).sum(axis=0) - squares)
        return np.asarray(np.maximum(sharing, squares * count / max(count - 1.0, 1.0)) / count**2)


def design(members: IntArray) -> Design:
    """The design of rows (N, M) of different objects, of any integers.

    With e the deviations of rows from their mean and T_g the sum of e over the rows of object g, the variance of the
    mean is estimated by c (sum_g T_g^2 - sum_r e_r^2) / N^2. With B (N, G) the incidence of objects in rows, C centring
    over rows and H = B'CB, the expectation of that under independent effects of objects of variance 1 is the trace of
    A = H^2 - H. So c is exact where rows are sums of effects of objects, and degrees of freedom, 2 E^2 / Var of the
    quadratic form, are exact where these are normal (Bell and McCaffrey, Survey Methodology 2002).
    """
    from scipy import sparse  # here: it takes a second, which the help of commands does without

    count, width = members.shape
    objects, codes = np.unique(members, return_inverse=True)
    entries = (np.ones(members.size), codes.ravel(), np.arange(count + 1) * width)
    holds = sparse.csr_array(entries, shape=(count, len(objects)))
    shared = holds.T @ holds
    shared = shared.toarray() if shared.nnz > _DENSE * len(objects) ** 2 else shared
    count = max(count, 1)
    each = shared.diagonal()  # H = shared - each each' / N, and A = twice - (other each' + each other')
    both, size = shared @ each, each @ each
    twice, other = shared @ shared - shared, both / count - (size / count**2 + 1.0 / count) / 2.0 * each
    trace = float((shared * shared).sum() - 2.0 * each @ both / count + (size / count) ** 2 - each.sum() + size / count)
    if trace < 1e-6 * count:
        return Design(holds, 0.0, max(count - 1.0, 1.0))
    form = (twice * twice).sum() - 4.0 * each @ (twice @ other) + 2.0 * ((other @ each) ** 2 + (other @ other) * size)
    return Design(holds, size / trace, trace**2 / float(form))


def mean_variance(values: FloatArray, objects: IntArray, span: float) -> tuple[float, float]:
    """The variance of the mean of rows of which those of one object depend on each other.

    With T_g the sum over the rows of object g of their deviations from the mean, of G objects in N rows,

        V = G / (G - 1) sum_g T_g^2 / N^2

    with G - 1 degrees of freedom (Liang and Zeger, Biometrika 1986), as Student's where each row shows another object.
    Two objects more, at either end of the scale, are added to it as by `clustered_variance`.

    Args:
        values: (N,), N at least 1.
        objects: (N,) int64 the object of each row.
        span: length of the scale that values lie on, which may be infinite.

    Returns:
        The variance, infinite for one object on an infinite scale, and its degrees of freedom.
    """
    sums = np.bincount(np.unique(objects, return_inverse=True)[1], values - values.mean())
    count, least = len(sums), max(1.0, len(sums) - 1.0)
    return count / least * float(sums @ sums) / len(values) ** 2 + _at_ends(span, count), least


def clustered_variance(values: FloatArray, groups: Sequence[IntArray], span: float) -> tuple[float, float]:
    """The variance of the mean of rows of which every two that share an object depend on each other.

    It is that of independent rows, V_R, with what each group of objects adds to it, V_g - V_R (`Design.variances`).
    Two objects more, at either end of the scale, are added to it (as by Agresti and Min, Statistics in Medicine 2005),
    so that it is above 0 where all rows are equal. Degrees of freedom are the harmonic mean of those of the parts,
    weighted by the parts; those of V_R are the number of objects minus 1 in the group with the fewest. In simulations a
    95 % interval misses in 4 to 7 % where outlines differ more than pictures do (40 to 200 pictures, 12 to 200
    outlines).

    Args:
        values: (N,), N at least 1.
        groups: (N, M) int64 objects of each row, one array for each kind of object; first that of the image.
        span: length of the scale that values lie on, which may be infinite.

    Returns:
        The variance, and its degrees of freedom.
    """
    count, designs = len(values), [design(each) for each in groups]
    error = values[:, np.newaxis] - values.mean()
    rows = float((error**2).sum()) / (count * max(count - 1.0, 1.0))
    added = [float(each.variances(error)[0]) - rows for each in designs]
    objects = [each.holds.shape[1] for each in designs]
    least, variance = max(1.0, min(objects) - 1.0), rows + sum(added)
    uncertain = rows / least + sum(more / each.degrees for more, each in zip(added, designs, strict=True))
    degrees = variance / uncertain if uncertain > 0.0 else least
    return variance + _at_ends(span, objects[0]), min(max(1.0, degrees), least)


def _at_ends(span: float, objects: int) -> float:
    """What two objects more, at either end of the scale, add to a variance; infinite for one on an infinite scale."""
    return 2.0 * (span / 2.0 / objects) ** 2 if math.isfinite(span) else 0.0 if objects > 1 else math.inf
