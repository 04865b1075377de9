"""What an evaluation has found about the holes that images bring along: a table for page and terminal."""

from collections.abc import Iterator
from typing import NamedTuple

from markupsafe import Markup

from maskrobust.lm_modules.reliance.results import Row, only
from maskrobust.train.report.blocks import Cell, Line, prose, table
from maskrobust.train.report.results import Network, Results
from maskrobust.train.report.wording import PERCENT, cut, hundredths, in_sentence, interval, method_title, percent

_NAME, _METHOD = 18, 17
"""Widths of the terminal's columns of names."""


class OwnHolesLine(NamedTuple):
    """A network under a way of hiding.

    Attributes:
        network: the network.
        method: the masking method.
        own: accuracy with the images' own holes.
        exchanged: accuracy with those of other images.
        cost: the one minus the other, paired image by image.
    """

    network: Network
    method: str
    own: Row
    exchanged: Row
    cost: Row


def own_holes_table(results: Results) -> list[OwnHolesLine]:
    """A line for each network under each way of hiding for which holes were exchanged."""
    return [*_lines(results)]


def _lines(results: Results) -> Iterator[OwnHolesLine]:
    for method in results.methods:
        for network in results.networks:
            of = {"network": network.name, "method": method}
            names = ("own_holes_accuracy", "exchanged_holes_accuracy", "exchange_cost")
            own, exchanged, cost = (only(results.defined, measure=name, **of) for name in names)
            if own is not None and exchanged is not None and cost is not None:
                yield OwnHolesLine(network, method, own, exchanged, cost)


def own_holes_lines(results: Results) -> list[str]:
    """The table in a terminal, at most 80 columns wide; none where no image has a hole of its own."""
    found = own_holes_table(results)
    if not found:
        return []
    lines = [
        "",
        f"{'right in ' + PERCENT.strip():{_NAME + _METHOD}}{'own holes':>10}{'exchanged':>11}{'difference':>12}",
    ]
    for line in found:
        way = cut(in_sentence(method_title(line.method)), _METHOD - 1)
        right = "".join(f"{100 * (row.value or 0.0):>{n}.0f}" for row, n in ((line.own, 10), (line.exchanged, 11)))
        lines.append(f"{cut(line.network.title, _NAME - 1):{_NAME}}{way:{_METHOD}}{right}{_whole(line.cost):>12}")
    return lines


def own_holes_block(results: Results) -> Markup:
    """The table on a page, with what it shows; nothing where no image has a hole of its own."""
    found = own_holes_table(results)
    if not found:
        return Markup()
    headings = ("Network", "Way of hiding", "Own holes", "Exchanged holes", "Difference")
    lines = [
        Line(
            line.network.title,
            [
                Cell(method_title(line.method)),
                *(Cell(percent(row.value or 0.0), interval(row.low, row.high, percent)) for row in line[2:4]),
                Cell(hundredths(line.cost.value or 0.0), interval(line.cost.low, line.cost.high, hundredths)),
            ],
        )
        for line in found
    ]
    return prose("own_holes", table=table("own-holes", "Accuracy with own and with exchanged holes", headings, lines))


def _whole(row: Row) -> str:
    """A difference in whole points, with a sign where it is not 0."""
    points = round(100 * (row.value or 0.0))
    return f"{points:+d}".replace("-", "−") if points else "0"
