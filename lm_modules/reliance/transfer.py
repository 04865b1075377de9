"""The transfer matrix (measure 6): accuracy for each mask family, also those that a network was never trained on."""

from collections.abc import Sequence

from maskrobust.augment import FamilyName
from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.conditions import transfer_condition
from maskrobust.lm_modules.reliance.measures import Measure, right_answers

HIDE_THE_OBJECT: frozenset[FamilyName] = frozenset({"objects", "companions", "enclosing_circles"})
"""Families that hide the whole object: accuracy above chance is nothing to be wished for there."""


def transfer_accuracy(family: FamilyName) -> Measure:
    """One cell: accuracy behind the holes of a mask family, in [0, 1], over the images asked about it.

    Args:
        family: one of the plan's `transfer_families`; the columns raise InputError otherwise.
    """
    return Measure(
        f"accuracy behind {family}",
        lambda outcomes: right_answers(outcomes, transfer_condition(family)),
        lambda means: means[..., 0],
    )


def worst_family(families: Sequence[FamilyName]) -> Measure:
    """The lowest accuracy over mask families that leave some of the object, in [0, 1], over images asked about all.

    The interval is that of the minimum, taken anew in each resample.

    Args:
        families: of the plan's `transfer_families`; those of `HIDE_THE_OBJECT` are passed over.

    Raises:
        InputError: all families hide the object. The columns raise it where the outcomes lack a family.
    """
    conditions = [transfer_condition(family) for family in families if family not in HIDE_THE_OBJECT]
    if not conditions:
        raise InputError(
            f"the worst family is that of families which leave some of the object, got {', '.join(families)}; add one."
        )
    return Measure(
        "accuracy behind the worst family",
        lambda outcomes: right_answers(outcomes, *conditions),
        lambda means: means.min(axis=-1),
    )
