"""Rows as tables: cells with footnotes, one table for each group of measures, and intervals as bars on one scale."""

import itertools
from collections.abc import Callable, Hashable, Iterable, Sequence
from string import ascii_lowercase
from typing import NamedTuple

from maskrobust.lm_modules.reliance.catalogue import Group, catalogue
from maskrobust.lm_modules.reliance.results import Row
from maskrobust.train.report.results import Network, Results
from maskrobust.train.report.wording import PERCENT, count, interval, writer

GROUP_TITLES: dict[Group, str] = {
    "outline": "Reading the outline",
    "leak": "The leak in detail",
    "accuracy": "Accuracy",
    "remains": "What predictions and features still tell",
    "information": "The same in bits",
    "own": "Own measures",
}
"""Of the groups that have a table; curves and transfer have sections of their own."""


class Cell(NamedTuple):
    """A row as a table shows it.

    Attributes:
        value: its value; "undefined" where it is.
        interval: in brackets; empty where there is none.
        note: letter of the footnote that says why it is undefined; empty where it is defined.
    """

    value: str
    interval: str
    note: str


class CellWriter:
    """Writes the cells of one page, and gives each reason why one is undefined a letter: a to z, aa, bb, ...

    Attributes:
        notes: letter by reason, in order of appearance.
    """

    def __init__(self) -> None:
        self.notes: dict[str, str] = {}

    def write(self, row: Row | None, *, sign: bool = True) -> Cell:
        """A cell in the unit of its measure; an empty one where there is no row. `sign`: with a percent sign."""
        if row is None:
            return Cell("", "", "")
        if row.value is None:
            place, reason = len(self.notes), row.undefined_because or ""
            letter = self.notes.setdefault(reason, ascii_lowercase[place % 26] * (place // 26 + 1))
            return Cell("undefined", "", letter)
        write = writer(catalogue()[row.measure].unit, difference=bool(row.compared_with))
        value = write(row.value)
        return Cell(value if sign else value.removesuffix(PERCENT), interval(row.low, row.high, write), "")


class Head(NamedTuple):
    """What a line of a table is called.

    Attributes:
        title: in words.
        marker: of the masking method in the chart, as `points` of a polygon; empty for none.
        marked: whether the line is tinted.
    """

    title: str
    marker: str = ""
    marked: bool = False


class Table(NamedTuple):
    """The measures of one group.

    Attributes:
        identity: of the element.
        title: of the group.
        headings: of the columns.
        blocks: networks, each with its lines: head and cells.
        counts: for each column how many images its numbers rest on, and how many were left out.
    """

    identity: str
    title: str
    headings: list[str]
    blocks: list[tuple[Network, list[tuple[Head, list[Cell]]]]]
    counts: list[tuple[str, str]]


def measure_tables(
    identity: str, rows: Sequence[Row], results: Results, cells: CellWriter, head_of: Callable[[Row], Head]
) -> list[Table]:
    """One table for each group of measures that any row is of: networks, and under each its lines.

    Args:
        identity: prefix of the tables' ids.
        rows: one for each network, line and column.
        results: whose rows they are.
        cells: writes the cells.
        head_of: the line that a row stands in.
    """
    by_group: dict[str, list[Row]] = {group: [] for group in GROUP_TITLES}
    for row in rows:
        by_group.get(catalogue()[row.measure].group, []).append(row)
    return [
        _table(f"{identity}-{group}", title, by_group[group], results, cells, head_of)
        for group, title in GROUP_TITLES.items()
        if by_group[group]
    ]


def _table(
    identity: str,
    title: str,
    rows: Sequence[Row],
    results: Results,
    cells: CellWriter,
    head_of: Callable[[Row], Head],
) -> Table:
    order = list(catalogue())
    columns: dict[Hashable, list[Row]] = {}
    for row in sorted(rows, key=lambda row: order.index(row.measure)):
        columns.setdefault(_column(row), []).append(row)
    placed = {(row.network, head_of(row), _column(row)): row for row in rows}
    blocks = []
    for network in results.networks:
        heads = dict.fromkeys(head_of(row) for row in rows if row.network == network.name)
        lines = [
            (head, [cells.write(placed.get((network.name, head, column))) for column in columns]) for head in heads
        ]
        if lines:
            blocks.append((network, lines))
    headings = [catalogue()[found[0].measure].heading(found[0].parameters) for found in columns.values()]
    return Table(identity, title, headings, blocks, [_counts(found) for found in columns.values()])


def _column(row: Row) -> Hashable:
    """The member of a measure that a row is of; layers stand in lines of their own."""
    return row.measure, *((name, value) for name, value in row.parameters.items() if name != "layer")


def _counts(rows: Sequence[Row]) -> tuple[str, str]:
    images, left_out = ([getattr(row, name) for row in rows] for name in ("images", "left_out"))
    return (
        count(min(images), max(images)),
        f"{count(min(left_out), max(left_out))} left out" if any(left_out) else "",
    )


class Bar(NamedTuple):
    """An interval on a scale that all bars of a table share; everything in percent of the scale's length.

    Attributes:
        low: lower bound.
        value: the value.
        high: upper bound.
        zero: the place of 0.
        margin: the place of the rule's margin; None where there is no rule.
    """

    low: float
    value: float
    high: float
    zero: float
    margin: float | None


def bars_of(rows: Iterable[Row], margin: float | None = None) -> list[Bar | None]:
    """The intervals on a scale that holds them all, 0 and the margin, with a little room; None where there is none."""
    ends = [(row.low, row.value, row.high) for row in rows]
    numbers = [number for number in (0.0, margin, *itertools.chain(*ends)) if number is not None]
    room = 0.05 * (max(numbers) - min(numbers)) or 0.01
    start, end = min(numbers) - room, max(numbers) + room

    def place(number: float) -> float:
        return 100.0 * (number - start) / (end - start)

    bars: list[Bar | None] = []
    for low, value, high in ends:
        if low is None or value is None or high is None:
            bars.append(None)
        else:
            margin_at = None if margin is None else place(margin)
            bars.append(Bar(place(low), place(value), place(high), place(0.0), margin_at))
    return bars
