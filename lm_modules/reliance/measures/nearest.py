"""The nearest picture, a measure without classes: are a picture's features with a hole still nearest to its own?"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.catalogue import Parameters, measure
from maskrobust.lm_modules.reliance.estimates.estimation import Columns, Statistic, columns_of
from maskrobust.lm_modules.reliance.holes.conditions import retention_condition
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.plan import ReliancePlan

_ALIKE, _ROWS_AT_ONCE = 1e-6, 256


def nearest_is_own(hidden: Tensor, clean: Tensor) -> Tensor:
    """Whether of all clean pictures the one with the nearest features is a masked picture's own.

    Near is a large cosine, s_ij = h_i . c_j / (|h_i| |c_j|), which is 0 where a length is 0. The answer is yes where
    s_ii > s_ij + 1e-6 for all other j. Clean pictures that are alike cannot be told apart, so a tie counts as no. With
    nothing hidden the answer is yes for all pictures but those whose features another one has, or a multiple of them.

    Args:
        hidden: (N, D) features h_i with something hidden.
        clean: (N, D) features c_i of the same pictures, in the same order, with nothing hidden.

    Returns:
        (N,) bool.

    Raises:
        InputError: they are not (N, D) of one shape, with N above 0.
    """
    if hidden.ndim != 2 or hidden.shape != clean.shape or len(hidden) == 0:
        raise InputError(
            f"features must be (N, D) of the same pictures with and without holes, got {tuple(hidden.shape)} and "
            f"{tuple(clean.shape)}; give both for all."
        )
    candidates, found = F.normalize(clean.double()).mT, []
    for rows in torch.arange(len(hidden), device=hidden.device).split(_ROWS_AT_ONCE):
        cosines = F.normalize(hidden[rows].double()) @ candidates
        own = cosines.gather(1, rows[:, None])
        others = cosines.scatter(1, rows[:, None], -torch.inf)
        found.append((own > others + _ALIKE).all(dim=1))
    return torch.cat(found)


def without_mean(features: Tensor) -> Tensor:
    """Features (N, D) minus their mean over the pictures, float64: what shifts all pictures alike is taken off."""
    numbers = features.double()
    return numbers - numbers.mean(dim=0)


def _fractions(plan: ReliancePlan) -> Sequence[Parameters]:
    return [{"hidden_fraction": fraction} for fraction in plan.hidden_fractions] if plan.nearest else ()


@measure(
    title="Nearest, {hidden_fraction:.0%} hidden",
    definition="Nearest picture: how often, with that fraction of the square patches hidden at random, of all clean "
    "pictures the one with the nearest features is the picture's own. It needs no classes. Features are what the last "
    "layer is given, near is a large cosine, and a tie counts as no. Chance is 1 divided by the number of pictures.",
    group="accuracy",
    unit="fraction",
    goal="high",
    members=_fractions,
    in_training=True,
    compared=True,
)
def nearest(hidden_fraction: float) -> Statistic:
    """Mean of `nearest_is_own`, in [0, 1], over all images. Its interval takes the clean pictures as given.

    Args:
        hidden_fraction: one of the plan's `hidden_fractions`; the columns raise InputError otherwise.
    """
    return Statistic(lambda outcomes: _columns(outcomes, *_features(outcomes, hidden_fraction)))


@measure(
    title="Nearest, means subtracted, {hidden_fraction:.0%} hidden",
    definition="Nearest picture after the mean feature of all pictures with holes is subtracted from these, and that "
    "of all clean pictures from those. A shift that holes give all pictures alike does not count.",
    group="accuracy",
    unit="fraction",
    goal="high",
    members=_fractions,
    in_training=True,
    compared=True,
)
def nearest_centred(hidden_fraction: float) -> Statistic:
    """Mean of `nearest_is_own` of `without_mean`, in [0, 1]; its interval takes clean pictures and means as given.

    Args:
        hidden_fraction: one of the plan's `hidden_fractions`; the columns raise InputError otherwise.
    """
    return Statistic(lambda outcomes: _columns(outcomes, *map(without_mean, _features(outcomes, hidden_fraction))))


def _features(outcomes: Outcomes, hidden_fraction: float) -> tuple[Tensor, Tensor]:
    hidden, clean = (outcomes.features_under(each) for each in (retention_condition(hidden_fraction), "clean"))
    return torch.from_numpy(hidden), torch.from_numpy(clean)


def _columns(outcomes: Outcomes, hidden: Tensor, clean: Tensor) -> Columns:
    return columns_of(outcomes, np.ones(len(outcomes), dtype=np.bool_), nearest_is_own(hidden, clean).numpy())
