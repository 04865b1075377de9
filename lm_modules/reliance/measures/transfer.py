"""The transfer matrix (measure 6): accuracy for each mask family, also those that a network was never trained on."""

from collections.abc import Iterable, Sequence

import numpy as np

from maskrobust.lm_modules.reliance.catalogue import Parameters, measure, once
from maskrobust.lm_modules.reliance.estimates.estimation import Statistic, right_answers
from maskrobust.lm_modules.reliance.holes.conditions import transfer_condition
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.lm_modules.reliance.results import Row

HIDE_THE_OBJECT = frozenset({"objects", "companions", "covers", "enclosing_circles"})
"""Families that hide the whole object: accuracy above chance is nothing to be wished for there."""


def _each_family(plan: ReliancePlan) -> Sequence[Parameters]:
    return [{"family": family} for family in plan.transfer_families]


def _all_families(plan: ReliancePlan) -> Sequence[Parameters]:
    return once(plan) if set(plan.transfer_families) - HIDE_THE_OBJECT else ()


@measure(
    title="{family}",
    definition="Accuracy under every masking method and mask family, of those that a network was trained on and of "
    "those that it has never seen.",
    group="transfer",
    unit="fraction",
    goal="high",
    members=_each_family,
    in_training=True,
    by_seed=False,
)
def transfer_accuracy(family: str) -> Statistic:
    """One cell: accuracy behind the holes of a mask family, in [0, 1], over the images asked about it.

    Args:
        family: one of the plan's `transfer_families`; the columns raise InputError otherwise.
    """
    return Statistic(lambda outcomes: right_answers(outcomes, transfer_condition(family)))


@measure(
    title="Worst family",
    definition="The lowest accuracy over mask families that leave some of the object.",
    group="transfer",
    unit="fraction",
    goal="high",
    members=_all_families,
    in_training=True,
    by_seed=False,
)
def worst_family(plan: ReliancePlan) -> Statistic:
    """The lowest accuracy over mask families that leave some of the object, in [0, 1], over images asked about all.

    The interval is that of the minimum, taken anew in each resample.

    Args:
        plan: with transfer families; those of `HIDE_THE_OBJECT` are passed over.
    """
    conditions = [transfer_condition(family) for family in plan.transfer_families if family not in HIDE_THE_OBJECT]
    return Statistic(
        lambda outcomes: right_answers(outcomes, *conditions), lambda means: np.asarray(means.min(axis=-1))
    )


def worst_cell(rows: Iterable[Row]) -> Row | None:
    """The row of a transfer matrix with the lowest accuracy; None where no cell is defined.

    Cells behind which the whole object is hidden do not count: nothing is to be recognised there. Its interval is that
    of the cell on its own: as the lowest of many, it is lower than what it would be again.

    Args:
        rows: of one network; those of other measures than `transfer_accuracy` are passed over.
    """
    cells = [
        row
        for row in rows
        if row.measure == "transfer_accuracy"
        and row.value is not None
        and row.parameters["family"] not in HIDE_THE_OBJECT
    ]
    return min(cells, key=lambda row: (row.value is None, row.value), default=None)
