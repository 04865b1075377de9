"""The nearest picture, a measure without classes: are a picture's features with a hole still nearest to its own?"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from maskrobust.lm_modules.reliance.catalogue import measure
from maskrobust.lm_modules.reliance.estimates.estimation import Columns, Statistic, columns_of
from maskrobust.lm_modules.reliance.holes.conditions import retention_condition
from maskrobust.lm_modules.reliance.outcomes import Outcomes

_ALIKE = 1e-6
_MOST_ROWS, _MOST_NUMBERS = 1024, 2**21
"""Pictures compared at once with as many others, fewer where their features are more than so many float64 numbers."""


def nearest_is_own(hidden: Tensor, clean: Tensor, *, subtract_means: bool = False) -> Tensor:
    """Whether of all clean pictures the one with the nearest features is a masked picture's own.

    Near is a large cosine, s_ij = h_i . c_j / (|h_i| |c_j|), which is 0 where a length is 0. The answer is yes where
    s_ii > s_ij + 1e-6 for all other j. Clean pictures that are alike cannot be told apart, so a tie counts as no. With
    nothing hidden the answer is yes for all pictures but those whose features another one has, or a multiple of them.

    It is computed in float64 block by block, so it needs little memory beside its inputs.

    Args:
        hidden: (N, D) features h_i with something hidden.
        clean: (N, D) features c_i of the same pictures, in the same order, with nothing hidden.
        subtract_means: subtract the mean over the pictures first, from h_i that of all h, from c_i that of all c.

    Returns:
        (N,) bool.
    """
    means = [_mean(each) if subtract_means else None for each in (hidden, clean)]
    rows_at_once = max(1, min(_MOST_ROWS, _MOST_NUMBERS // max(1, hidden.shape[1])))

    def directions(features: Tensor, mean: Tensor | None) -> Iterator[Tensor]:
        for rows in features.split(rows_at_once):
            numbers = rows.to(torch.float64, copy=True)
            if mean is not None:
                numbers -= mean
            yield F.normalize(numbers, out=numbers)

    found = []
    for place, asked in enumerate(directions(hidden, means[0])):
        own = best_other = asked.new_full((len(asked),), -torch.inf)
        for other_place, candidates in enumerate(directions(clean, means[1])):
            cosines = asked @ candidates.mT
            if other_place == place:
                own = cosines.diagonal().clone()
                cosines.fill_diagonal_(-torch.inf)
            best_other = torch.maximum(best_other, cosines.amax(dim=1))
        found.append(own > best_other + _ALIKE)
    return torch.cat(found)


def _mean(features: Tensor) -> Tensor:
    """Mean (D,) float64 over the pictures."""
    sums = [rows.double().sum(dim=0) for rows in features.split(_MOST_ROWS)]
    return torch.stack(sums).sum(dim=0) / len(features)


_PICTURES = (
    "Nearest picture: how often, with that fraction of the square patches hidden at random, of all clean pictures the "
    "one with the nearest features is the picture's own. It needs no classes. Features are what the last layer is "
    "given, near is a large cosine, and a tie counts as no. Chance is 1 divided by the number of pictures."
)
_CENTRED = (
    "Nearest picture after the mean feature of all pictures with holes is subtracted from these, and that of all clean "
    "pictures from those. A shift that holes give all pictures alike does not count."
)


def _enter(name: str, title: str, definition: str, *, subtract_means: bool) -> Callable[[float], Statistic]:
    @measure(
        name=name,
        title=f"{title}, {{hidden_fraction:.0%}} hidden",
        definition=definition,
        group="accuracy",
        unit="fraction",
        goal="high",
        members=lambda plan: [{"hidden_fraction": each} for each in plan.hidden_fractions] if plan.nearest else (),
        in_training=True,
        compared=True,
    )
    def mean(hidden_fraction: float) -> Statistic:
        def columns(outcomes: Outcomes) -> Columns:
            features = (outcomes.features_under(each) for each in (retention_condition(hidden_fraction), "clean"))
            found = nearest_is_own(*map(torch.from_numpy, features), subtract_means=subtract_means)
            return columns_of(outcomes, np.ones(len(outcomes), dtype=np.bool_), found.numpy())

        return Statistic(columns)

    return mean


nearest = _enter("nearest", "Nearest", _PICTURES, subtract_means=False)
"""(hidden fraction, one of the plan's) -> mean of `nearest_is_own` over all images, in [0, 1].

Its interval takes the clean pictures as given.
"""
nearest_centred = _enter("nearest_centred", "Nearest, means subtracted", _CENTRED, subtract_means=True)
"""The same with means subtracted; its interval takes the means as given, too."""
