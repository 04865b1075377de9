"""Lines of a chart, for `chart.html`."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from maskrobust.lm_modules.reliance.results import Row
from maskrobust.train.report.results import Network


class Point(NamedTuple):
    """A point of a line: a fraction in [0, 1], across, and the row whose value and interval it shows."""

    at: float
    row: Row


class Line(NamedTuple):
    """One line of a chart.

    Attributes:
        network: whose line it is: its number and its colour.
        points: from left to right.
        label_at: where its number stands, across and upwards, apart from those of the other lines.
    """

    network: Network
    points: Sequence[Point]
    label_at: tuple[float, float]


def chart_lines(points: Sequence[tuple[Network, Sequence[Point]]]) -> list[Line]:
    """A line for each network, through its points in any order, at least one."""
    lines = []
    for place, (network, given) in enumerate(points):
        of_line = sorted(given, key=lambda point: point.at)
        x, y = [point.at for point in of_line], [point.row.value or 0.0 for point in of_line]
        at = x[0] + (0.04 + 0.92 * (place + 0.5) / len(points)) * (x[-1] - x[0])
        lines.append(Line(network, of_line, (at, float(np.interp(at, x, y)))))
    return lines
