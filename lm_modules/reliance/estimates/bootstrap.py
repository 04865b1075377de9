"""Bootstrap intervals for functions of means over objects, paired across measures, and over seeds."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.arrays import FloatArray, IntArray

_CHUNK_ELEMENTS = 2**22
_KEPT_ELEMENTS = 2**24

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


class Resampled(NamedTuple):
    """A number on the data as they are, and on resamples of them.

    Attributes:
        value: the number.
        replicates: (R,) float64, the number on each resample.
    """

    value: float
    replicates: FloatArray


def hierarchical_bootstrap_means(
    columns: FloatArray, replicates: int = 2000, seed: int = 0, objects: IntArray | None = None
) -> FloatArray:
    """Means of the columns over resampled seeds crossed with resampled objects.

    Every replicate draws objects, G of G, and independently seeds, S - 1 of S (1 of 1), both with replacement, and
    takes the mean over all images of the objects and all seeds: all seeds see the same images, all columns the same of
    both. Where each image shows another object, objects are images. Drawing S - 1 seeds
    makes the spread of their mean unbiased (Rao and Wu, "Resampling inference with complex survey data", JASA 1988);
    drawing all S would understate it by (S - 1) / S, a third for three seeds. Crossing is the pigeonhole bootstrap
    (Owen, Annals of Applied Statistics 2007). Few seeds make intervals too narrow. In a simulation
    with normal effects, a 95 % interval over 2, 3, 4, 5 and 8 seeds holds the truth in 50, 75, 82, 86 and 91 % of cases
    where the seed alone decides, and in 86, 91, 92, 93 and 93 % where the standard deviation over seeds is twice the
    standard error over images.

    Args:
        columns: (C, S, N) one row for each quantity, seed and image.
        replicates: number R of resamples.
        seed: decides the resamples, together with S and G.
        objects: (N,) which object each image shows; None for one image an object.

    Returns:
        (R, C) float64 means. Memory is bounded: 2^22 draws are held at a time, and the counts of eight resamplings of
        up to 2^24 draws are kept for the measures that follow.

    Raises:
        InputError: there is no image or no seed, or an entry is not finite.
    """
    quantities, seeds, images = columns.shape
    if seeds == 0 or images == 0:
        raise InputError(
            f"a bootstrap needs at least one seed and one image, got {seeds} and {images}; leave the measure out."
        )
    if not np.isfinite(columns).all():
        raise InputError("columns to resample must be finite, got NaN or infinity; leave invalid images out.")
    flat = np.ascontiguousarray(columns.reshape(quantities * seeds, images).T)
    sums, sizes = (flat, np.ones(images)) if objects is None else _sums_by_object(flat, objects)
    resamples = _kept_resamples if replicates * len(sums) <= _KEPT_ELEMENTS else _resamples
    means = []
    for object_counts, seed_counts in resamples(seed, replicates, seeds, len(sums)):
        weights = object_counts.astype(np.float64)
        per_seed = (weights @ sums).reshape(len(weights), quantities, seeds)
        drawn = (weights @ sizes)[:, np.newaxis]
        means.append(np.einsum("rcs,rs->rc", per_seed, seed_counts) / (drawn * max(seeds - 1, 1)))
    return np.concatenate(means)


def percentile_interval(value: float, replicates: FloatArray, confidence: float = 0.95) -> Interval:
    """The percentile interval of a bootstrapped number.

    Args:
        value: the number on the data as they are.
        replicates: (R,) the number on each resample.
        confidence: fraction in (0, 1) of the replicates inside the interval.

    Raises:
        InputError: confidence is outside (0, 1).
    """
    if not 0.0 < confidence < 1.0:
        raise InputError(f"confidence must lie between 0 and 1, got {confidence}; 0.95 is usual.")
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(replicates, [tail, 1.0 - tail])
    return Interval(float(value), float(low), float(high))


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


def _resamples(seed: int, replicates: int, seeds: int, images: int) -> Iterator[tuple[Counts, Counts]]:
    """How often each object (r, N) and each seed (r, S) is drawn, for so many resamples r at a time."""
    image_stream, seed_stream = map(np.random.default_rng, np.random.SeedSequence(seed).spawn(2))
    chunk = max(1, _CHUNK_ELEMENTS // images)
    for start in range(0, replicates, chunk):
        size = min(chunk, replicates - start)
        yield (
            _resample_counts(image_stream, size, images, images),
            _resample_counts(seed_stream, size, seeds, max(seeds - 1, 1)),
        )


@lru_cache(maxsize=8)
def _kept_resamples(seed: int, replicates: int, seeds: int, images: int) -> tuple[tuple[Counts, Counts], ...]:
    """The same, kept: the measures of one report resample alike, and drawing takes ten times as long as averaging."""
    return tuple(_resamples(seed, replicates, seeds, images))


def _resample_counts(stream: np.random.Generator, replicates: int, items: int, draws: int) -> Counts:
    """How many of the `draws` fell on each item, (replicates, items) in the smallest whole numbers that hold them."""
    drawn = stream.integers(0, items, size=(replicates, draws))
    drawn += np.arange(replicates)[:, np.newaxis] * items
    counts = np.bincount(drawn.ravel(), minlength=replicates * items).reshape(replicates, items)
    return counts.astype(np.min_scalar_type(draws))
