"""Bootstrap intervals for functions of means over objects, paired across measures."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.arrays import FloatArray, IntArray

_CHUNK_ELEMENTS = 2**22
_KEPT_ELEMENTS = 2**27

Counts = NDArray[np.unsignedinteger[Any]]


class Interval(NamedTuple):
    """A number with its interval.

    Attributes:
        value: the number on the data as they are.
        low: lower bound.
        high: upper bound.
    """

    value: float
    low: float
    high: float


def bootstrap_means(
    columns: FloatArray, replicates: int = 2000, seed: int = 0, objects: IntArray | None = None
) -> FloatArray:
    """Means of the columns over resampled objects.

    Every replicate draws objects, G of G with replacement, and takes the mean over all images of these: all columns see
    the same objects. Where each image shows another object, objects are images.

    Args:
        columns: (C, N) one row for each quantity, N at least 1.
        replicates: number R of resamples.
        seed: decides the resamples, together with G.
        objects: (N,) which object each image shows; None for one image an object.

    Returns:
        (R, C) float64 means. Memory is bounded: 2^22 draws are held at a time, and the counts of eight resamplings of
        up to 2^27 draws are kept for the measures that follow, in a byte each.

    Raises:
        InputError: an entry is not finite.
    """
    if not np.isfinite(columns).all():
        raise InputError("columns to resample must be finite, got NaN or infinity; leave invalid images out.")
    values = np.ascontiguousarray(columns.T)
    sums, sizes = (values, np.ones(len(values))) if objects is None else _sums_by_object(values, objects)
    resamples = _kept_resamples if replicates * len(sums) <= _KEPT_ELEMENTS else _resamples
    means = []
    for counts in resamples(seed, replicates, len(sums)):
        weights = counts.astype(np.float64)
        means.append((weights @ sums) / (weights @ sizes)[:, np.newaxis])
    return np.concatenate(means)


def percentile_interval(value: float, replicates: FloatArray, confidence: float = 0.95) -> Interval:
    """The percentile interval of a bootstrapped number.

    Args:
        value: the number on the data as they are.
        replicates: (R,) the number on each resample.
        confidence: fraction in (0, 1) of the replicates inside the interval.

    """
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(replicates, [tail, 1.0 - tail])
    return Interval(float(value), float(low), float(high))


def object_codes(objects: IntArray) -> IntArray:
    """Numbers (N,) from 0 for the objects (N,), in the order in which they first occur."""
    _, first, codes = np.unique(objects, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[codes]


def _sums_by_object(values: FloatArray, objects: IntArray) -> tuple[FloatArray, FloatArray]:
    """Sums (G, Q) of values (N, Q) over the images of each object (N,), and the number of these images (G,)."""
    codes = object_codes(objects)
    order = np.argsort(codes, kind="stable")
    sizes = np.bincount(codes)
    return np.add.reduceat(values[order], np.cumsum(sizes) - sizes), sizes.astype(np.float64)


def _resamples(seed: int, replicates: int, objects: int) -> Iterator[Counts]:
    """How often each object is drawn (r, G), for so many resamples r at a time."""
    stream = np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])
    chunk = max(1, _CHUNK_ELEMENTS // objects)
    for start in range(0, replicates, chunk):
        yield _resample_counts(stream, min(chunk, replicates - start), objects)


@lru_cache(maxsize=8)
def _kept_resamples(seed: int, replicates: int, objects: int) -> tuple[Counts, ...]:
    """The same, kept: the measures of one report resample alike, and drawing takes ten times as long as averaging."""
    return tuple(_resamples(seed, replicates, objects))


def _resample_counts(stream: np.random.Generator, replicates: int, items: int) -> Counts:
    """How many of as many draws as items fell on each, (replicates, items) in the smallest integers that hold them."""
    drawn = stream.integers(0, items, size=(replicates, items))
    drawn += np.arange(replicates)[:, np.newaxis] * items
    counts = np.bincount(drawn.ravel(), minlength=replicates * items).reshape(replicates, items)
    return counts.astype(np.min_scalar_type(counts.max()))
