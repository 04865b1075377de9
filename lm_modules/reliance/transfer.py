"""The transfer matrix (measure 6): accuracy for each mask family, also those that a network was never trained on."""

from collections.abc import Sequence

from augment import FamilyName
from lm_modules.reliance.conditions import transfer_condition
from lm_modules.reliance.measures import Measure, right_answers


def transfer_accuracy(family: FamilyName) -> Measure:
    """One cell: accuracy behind the holes of a mask family, in [0, 1], over the images asked about it.

    Args:
        family: one of the plan's `transfer_families`; the columns raise ValueError otherwise.
    """
    return Measure(
        f"accuracy behind {family}",
        lambda outcomes: right_answers(outcomes, transfer_condition(family)),
        lambda means: means[..., 0],
    )


def worst_family(families: Sequence[FamilyName]) -> Measure:
    """The lowest accuracy over mask families, in [0, 1], over the images asked about all of them.

    The interval is that of the minimum, taken anew in each resample.

    Args:
        families: at least one of the plan's `transfer_families`; the columns raise ValueError otherwise.
    """
    conditions = [transfer_condition(family) for family in families]
    return Measure(
        "accuracy behind the worst family",
        lambda outcomes: right_answers(outcomes, *conditions),
        lambda means: means.min(axis=-1),
    )
