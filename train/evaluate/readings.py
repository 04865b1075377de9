"""What the numbers of an evaluation say, decided once: the table of rows, with readings."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from maskrobust.lm_modules.reliance.catalogue import HEADLINE, OUTLINE_PULL
from maskrobust.lm_modules.reliance.measures.accuracy import NEARLY_ONE
from maskrobust.lm_modules.reliance.results import Row, only, select
from maskrobust.train.report.results import MEANINGLESS


def with_readings(rows: Sequence[Row], at_chance: Mapping[str, str]) -> list[Row]:
    """The rows, with what the 95 % interval of a used share or of an outline pull says, and where either means nothing.

    A network relies on outlines where its used share is not 0, whatever the sign; holes pull it towards their objects
    where its outline pull is above 0. A used share, and a comparison by it, means nothing where a network has (nearly)
    one answer behind holes, or where it is at chance with nothing hidden; then its clean accuracy says so, too.

    Args:
        rows: of networks, and of pairs of networks that are compared by their used shares.
        at_chance: by network what `measures.accuracy.at_chance` says, empty where it is better than chance.
    """
    own = [row for row in rows if not row.compared_with]
    reasons: dict[tuple[str, str], str] = {}
    for row in select(own, measure=HEADLINE):
        commonest = only(own, measure="commonest_answer", network=row.network, method=row.method)
        majority = only(own, measure="majority_fraction", network="", method="")
        reason = at_chance.get(row.network) or _one_answer(commonest, majority)
        if reason and row.value is not None:
            reasons[row.network, row.method] = reason

    def read(row: Row) -> Row:
        if row.measure == "reliance":
            pair = (row.compared_with, row.method), (row.network, row.method)
            found = [reasons[each] for each in pair if each in reasons]
            return replace(row, reading=MEANINGLESS + found[0]) if found else row
        if row.low is None or row.compared_with:
            return row
        of_share, of_accuracy = reasons.get((row.network, row.method)), at_chance.get(row.network)
        if reason := {HEADLINE: of_share, "clean_accuracy": of_accuracy}.get(row.measure):
            return replace(row, reading=MEANINGLESS + reason)
        if row.measure == HEADLINE:
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
