"""Draw which segments each query shows: independent draws, and coalitions by Shapley's kernel.

Everything follows from an int64 key. More independent draws or coalitions begin with those of a smaller sample.
"""

import itertools

import numpy as np
import torch
from torch import Tensor

from maskrobust.augment import fold_in, uniform
from maskrobust.errors import InputError, check_at_least


def draw_independent(
    key: int, samples: int, segments: int, visible_fraction: float | tuple[float, float] = 0.5
) -> Tensor:
    """Queries (N, M) bool in which each segment is visible with probability `visible_fraction`, independently.

    Args:
        key: int64.
        samples: number N of queries, at least 1.
        segments: number M of segments, at least 2.
        visible_fraction: the probability, or a range from which each query draws its own uniformly.

    Raises:
        InputError: a number is out of its range.
    """
    check_at_least("samples", samples, 1)
    check_at_least("segments", segments, 2)
    low, high = visible_fraction if isinstance(visible_fraction, tuple) else (visible_fraction, visible_fraction)
    if not 0 <= low <= high <= 1:
        raise InputError(
            f"visible_fraction must lie in 0 to 1, or be a range there, got {visible_fraction}; half visible is usual."
        )
    keys = fold_in(torch.arange(samples), key)
    fractions = low + (high - low) * uniform(fold_in(keys, 0))
    return uniform(fold_in(keys, 1), segments) < fractions.unsqueeze(1)


def draw_coalitions(key: int, samples: int, segments: int) -> Tensor:
    """Coalitions (N, M) bool, drawn as often as Shapley's kernel weighs them, after everything and nothing.

    k segments are visible with a probability in proportion to 1 / (k (M - k)), 0 < k < M, every subset of that size
    being equally likely. They are for `kernel_shap(..., drawn_by_kernel=True)`.

    Args:
        key: int64.
        samples: number N of queries, the first two included, at least 3.
        segments: number M of segments, at least 2.

    Raises:
        InputError: a number is out of its range.
    """
    check_at_least("samples", samples, 3)
    check_at_least("segments", segments, 2)
    keys = fold_in(torch.arange(samples - 2), key)
    sizes = np.arange(1, segments)
    ends = np.cumsum(1 / (sizes * (segments - sizes)))
    visible_count = 1 + np.searchsorted(ends / ends[-1], uniform(fold_in(keys, 0)).numpy(), side="right")
    rank = uniform(fold_in(keys, 1), segments).argsort(dim=1, stable=True).argsort(dim=1)
    drawn = rank < torch.from_numpy(np.minimum(visible_count, segments - 1)).unsqueeze(1)
    return with_ends(drawn)


def all_coalitions(segments: int) -> Tensor:
    """Every subset of 2 to 16 segments, everything and nothing first, (2^M, M) bool; other numbers raise InputError."""
    check_at_least("segments", segments, 2)
    if segments > 16:
        raise InputError(f"all coalitions are listed of at most 16 segments, got {segments}; use draw_coalitions.")
    subsets = torch.tensor(list(itertools.product((False, True), repeat=segments)))
    return with_ends(subsets[1:-1])


def draw_paper_protocol(key: int, segments: int) -> Tensor:
    """The queries of LIME in Balasubramanian and Feizi (ICCV 2023): everything, then 511 with half visible.

    The other settings are the defaults of `lime`, on probabilities.
    """
    z = draw_independent(key, 512, segments)
    z[0] = True
    return z


def with_ends(z: Tensor) -> Tensor:
    """Queries (N, M) bool with two in front that show everything and nothing, (N + 2, M)."""
    return torch.cat((torch.ones_like(z[:1]), torch.zeros_like(z[:1]), z))
