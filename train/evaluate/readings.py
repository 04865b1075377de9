"""What the numbers of an evaluation say, decided once: the table of rows, with readings."""

from collections.abc import Sequence
from dataclasses import replace

from maskrobust.lm_modules.reliance.catalogue import HEADLINE, OUTLINE_PULL
from maskrobust.lm_modules.reliance.results import Row, only, select
from maskrobust.train.report.results import MEANINGLESS

NEARLY_ONE = 0.95
"""Fraction of the answers behind holes from which on they are nearly one class."""


def with_readings(rows: Sequence[Row], num_classes: int) -> list[Row]:
    """The rows, with what the 95 % interval of a used share or of an outline pull says, and where either means nothing.

    A network relies on outlines where its used share is not 0, whatever the sign; holes pull it towards their objects
    where its outline pull is above 0. A used share, and a comparison by it, means nothing where a network has (nearly)
    one answer behind holes, or where the interval of its clean accuracy reaches down to chance.

    Args:
        rows: of networks, and of pairs of networks that are compared by their used shares.
        num_classes: number of the data's classes; 0 for images without labels.
    """
    own = [row for row in rows if not row.compared_with]
    reasons: dict[tuple[str, str], str] = {}
    for row in select(own, measure=HEADLINE):
        clean, commonest, majority = (
            only(own, measure=measure, network=network, method=method)
            for measure, network, method in (
                ("clean_accuracy", row.network, row.method),
                ("commonest_answer", row.network, row.method),
                ("majority_fraction", "", ""),
            )
        )
        reason = _one_answer(commonest, majority) or _near_chance(clean, num_classes)
        if reason and row.value is not None:
            reasons[row.network, row.method] = reason

    def read(row: Row) -> Row:
        if row.measure == "reliance":
            pair = (row.compared_with, row.method), (row.network, row.method)
            found = [reasons[each] for each in pair if each in reasons]
            return replace(row, reading=MEANINGLESS + found[0]) if found else row
        if row.low is None or row.compared_with:
            return row
        if row.measure == HEADLINE:
            if (row.network, row.method) in reasons:
                return replace(row, reading=MEANINGLESS + reasons[row.network, row.method])
            above, below = row.low > 0.0, row.high is not None and row.high < 0.0
            return replace(row, reading="relies on outlines" if above or below else "not shown")
        if row.measure == OUTLINE_PULL:
            return replace(row, reading="pulled" if row.low > 0.0 else "not shown")
        return row

    return [read(row) for row in rows]


def _one_answer(commonest: Row | None, majority: Row | None) -> str:
    """Why the answers behind holes say nothing; empty where they say something, or where the data have one class."""
    if commonest is None or commonest.value is None or commonest.value < NEARLY_ONE:
        return ""
    if majority is not None and majority.value is not None and majority.value >= NEARLY_ONE:
        return ""
    return f"{100 * commonest.value:.0f}\u202f% of its answers behind object holes are one class"


def _near_chance(clean: Row | None, num_classes: int) -> str:
    if not num_classes or clean is None or clean.low is None or clean.low > 1.0 / num_classes:
        return ""
    return "its accuracy with nothing hidden is not above chance"
