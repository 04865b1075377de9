"""Mutual information between prediction and label, which also counts outlines that mislead."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Literal

import numpy as np

from maskrobust.lm_modules.reliance.arrays import FloatArray, IntArray
from maskrobust.lm_modules.reliance.catalogue import measure, where_shapes
from maskrobust.lm_modules.reliance.estimates.bootstrap import Interval, object_codes, percentile_interval
from maskrobust.lm_modules.reliance.estimates.estimation import Estimate, Estimator
from maskrobust.lm_modules.reliance.outcomes import Outcomes

PERMUTATIONS = 1000
"""Random orders of the labels behind an interval of chance."""
_TOGETHER = 2**15  # numbers in an array of several orders, which the caches hold


@measure(
    title="Bits behind silhouette [range by chance]",
    definition="Mutual information between prediction and label behind the hole, in bits, corrected for bias. It sees "
    "any dependence, also where the outline misleads. The brackets hold the range under permuted labels, "
    "which is chance, and no interval of the value. Over several seeds, the mean over seeds has its own "
    "interval.",
    group="information",
    unit="bits",
    goal="low",
    members=where_shapes,
)
def information_silhouette() -> Estimator:
    """What predictions behind the silhouette tell about the label; see `mutual_information`."""
    return _information_behind("silhouette")


@measure(
    title="Bits behind circle [range by chance]",
    definition="The same behind the circle.",
    group="information",
    unit="bits",
    goal="low",
    members=where_shapes,
)
def information_circle() -> Estimator:
    """What predictions behind the enclosing circle tell about the label; see `mutual_information`."""
    return _information_behind("circle")


def _information_behind(hole: Literal["silhouette", "circle"]) -> Estimator:
    def estimator(runs: Sequence[Outcomes], _replicates: int, seed: int) -> Estimate:
        valid = runs[0].object_valid
        images, left_out = int(valid.sum()), int((~valid).sum())
        if images == 0:
            return Estimate(None, None, None, images, left_out, "undefined because no image is valid for it.")
        predictions, objects = [run.predictions_under(hole)[valid] for run in runs], runs[0].objects[valid]
        found = mutual_information(predictions, runs[0].labels[valid], objects, seed=seed)
        return Estimate(None, None, None, images, left_out).within(found)

    return estimator


def mutual_information(
    predictions: Sequence[IntArray],
    labels: IntArray,
    objects: IntArray | None = None,
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Interval:
    """Mutual information I(P; Y) = H(P) + H(Y) - H(P, Y) in bits, the mean over runs, with its interval under chance.

    Each entropy is the plug-in one plus Miller and Madow's correction (m - 1) / (2 N ln 2) bits, m being the number of
    values that occur (Miller, "Note on the bias of information estimates", 1955). Under chance the labels are permuted
    among the objects, alike for all runs, so that the interval is that of the mean, and keeps what the runs have in
    common.

    Args:
        predictions: (N,) int64 of each run on the same images, at least one run.
        labels: (N,) int64, N at least 1.
        objects: (N,) int64, which object each image shows, and its label with it; None for one image an object.
        permutations: number of random orders of the labels, at least 1.
        seed: decides them.

    Returns:
        The bits, slightly below 0 where chance would have it, and the 95 % interval of the same number when labels are
        permuted: above it is dependence that chance does not explain.
    """
    label_codes, label_counts = _codes(labels)
    runs = [_codes(each) for each in predictions]
    cells = [codes * len(label_counts) for codes, _ in runs]
    terms = _terms(len(labels))
    marginals = [_entropies(codes[None], terms) for codes, _ in runs]

    def mean_bits(orders: IntArray) -> FloatArray:
        of_labels = _entropies(orders, terms)
        each = [m + of_labels - _entropies(c + orders, terms) for m, c in zip(marginals, cells, strict=True)]
        bits: FloatArray = np.mean(each, axis=0)
        return bits

    shown = np.arange(len(labels)) if objects is None else object_codes(objects)
    of_objects = label_codes[np.unique(shown, return_index=True)[1]]
    rng = np.random.default_rng(seed)
    orders = (rng.permutation(of_objects)[shown] for _ in range(permutations))
    largest = max(len(labels), *(len(counts) * len(label_counts) for _, counts in runs))
    null = [mean_bits(np.stack(some)) for some in _parts(orders, max(1, _TOGETHER // largest))]
    return percentile_interval(float(mean_bits(label_codes[None])[0]), np.concatenate(null))


def _parts(orders: Iterator[IntArray], size: int) -> Iterator[list[IntArray]]:
    """As many orders at a time, the last time those that are left."""
    while some := list(islice(orders, size)):
        yield some


def _codes(values: IntArray) -> tuple[IntArray, IntArray]:
    """Position (N,) of each value among those that occur, and how often each of these does."""
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    return codes, counts


def _terms(images: int) -> FloatArray:
    """What a value contributes to an entropy in bits, by how many of N images have it: -c/N log2 c/N, (N + 1,)."""
    fractions = np.arange(1, images + 1) / images
    return np.concatenate([[0.0], -fractions * np.log2(fractions)])


def _entropies(values: IntArray, terms: FloatArray) -> FloatArray:
    """Entropies (R,) in bits of the rows of small whole numbers (R, N), with the Miller-Madow correction.

    Those of several rows at once take less time than one after the other; `terms` are those of `_terms`.
    """
    rows, images = values.shape
    size = int(values.max()) + 1
    counts = np.bincount((values + np.arange(0, rows * size, size)[:, None]).ravel())
    occurring = np.flatnonzero(counts > 0)
    row = occurring // size
    plug_in = np.bincount(row, terms[counts[occurring]])
    entropies: FloatArray = plug_in + (np.bincount(row) - 1) / (2.0 * images * np.log(2.0))
    return entropies
