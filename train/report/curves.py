"""Retention curves: accuracy drawn as small multiples, one panel for each curve, and the scores of every metric."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter

from maskrobust.lm_modules.reliance.catalogue import catalogue
from maskrobust.lm_modules.reliance.results import Row, only, select
from maskrobust.train.report.results import Network, Results
from maskrobust.train.report.svg import INK, PANEL, draw, network_colour, tick
from maskrobust.train.report.tables import Cell, CellWriter
from maskrobust.train.report.wording import capitalised, family_title, method_title

_DRAWN, _SCORE = "curve_accuracy", "_score"
_LABEL = "Chart: accuracy against the hidden fraction of the image"


class Line(NamedTuple):
    """The curves of one network under one masking method.

    Attributes:
        network: whose they are.
        emphasised: whether it stands out, with its intervals; the others are thin.
        rows: points and scores.
    """

    network: Network
    emphasised: bool
    rows: list[Row]


class Panel(NamedTuple):
    """One curve.

    Attributes:
        family: of the segments that are hidden.
        order: in which they are hidden.
    """

    family: str
    order: str

    @property
    def title(self) -> str:
        """As in "SLIC, most salient first"."""
        order = self.order.replace("_", " ")
        return f"{family_title(self.family)}, {order if order == 'random' else f'{order} first'}"


class ScoreTable(NamedTuple):
    """The scores of one metric.

    Attributes:
        identity: of the element.
        title: of the metric.
        families: title and number of columns of each family.
        orders: headings of the columns.
        rows: the networks, each with a cell for each column.
    """

    identity: str
    title: str
    families: list[tuple[str, int]]
    orders: list[str]
    rows: list[tuple[Network, list[Cell]]]


class Curves(NamedTuple):
    """The curves of several networks.

    Attributes:
        identity: of their element.
        title: heading; empty for none.
        charts: a drawing for each curve.
        tables: one for each metric.
    """

    identity: str
    title: str
    charts: list[str]
    tables: list[ScoreTable]


def curves_section(results: Results, cells: CellWriter) -> dict[str, Any] | None:
    """The arms of a claim under their own methods, or networks under each method; None where there is no curve."""
    rows = [row for row in results.over_seeds if catalogue()[row.measure].group == "curves"]

    def curves(identity: str, title: str, shown: Mapping[str, str]) -> Curves | None:
        """Of networks under one masking method each; a claim's stand out where its rule compares them."""
        lines = []
        for network in results.networks:
            method = shown[network.name]
            found = select(rows, network=network.name, method=method)
            if found:
                lines.append(
                    Line(
                        network,
                        not network.arm or (results.is_in_the_rule(network) and method == network.arm["method"]),
                        found,
                    )
                )
        return _curves(lines, cells, identity, title) if lines else None

    if results.name == "claim":
        drawn = [curves("curves", "", {network.name: network.arm["method"] for network in results.networks})]
    else:
        names = [network.name for network in results.networks]
        drawn = [
            curves(f"curves-{method}", method_title(method), dict.fromkeys(names, method)) for method in results.methods
        ]
    kept = [each for each in drawn if each is not None]
    return {"curves": kept} if kept else None


def _curves(lines: Sequence[Line], cells: CellWriter, identity: str, title: str) -> Curves:
    panels = curve_panels(lines)
    charts = [curve_chart(lines, panel, f"{identity}-{place}") for place, panel in enumerate(panels)]
    scores = dict.fromkeys(
        row.measure for line in lines for row in line.rows if "hidden_fraction" not in row.parameters
    )
    tables = [_score_table(lines, panels, key, f"{identity}-{key.removesuffix(_SCORE)}", cells) for key in scores]
    return Curves(identity, title, charts, tables)


def _score_table(
    lines: Sequence[Line], panels: Sequence[Panel], measure: str, identity: str, cells: CellWriter
) -> ScoreTable:
    families = [
        (family_title(family), len(list(group))) for family, group in groupby(panels, key=lambda panel: panel.family)
    ]
    rows = [
        (
            line.network,
            [cells.write(only(line.rows, measure=measure, parameters=panel._asdict())) for panel in panels],
        )
        for line in lines
    ]
    orders = [capitalised(panel.order.replace("_", " ")) for panel in panels]
    return ScoreTable(identity, catalogue()[measure].title, families, orders, rows)


def curve_panels(lines: Sequence[Line]) -> list[Panel]:
    """Every family and order that any network was asked under, families first."""
    found = {
        Panel(str(row.parameters["family"]), str(row.parameters["order"]))
        for line in lines
        for row in select(line.rows, measure=_DRAWN)
    }
    families, orders = (
        list(dict.fromkeys(str(row.parameters[name]) for line in lines for row in line.rows))
        for name in ("family", "order")
    )
    return [Panel(family, order) for family in families for order in orders if Panel(family, order) in found]


def curve_chart(lines: Sequence[Line], panel: Panel, identity: str) -> str:
    """Accuracy against the hidden fraction, on the same axes for every curve.

    Lines carry the numbers of their networks at places of their own, so that no two numbers meet.

    Args:
        lines: at least one.
        panel: which curve.
        identity: prefix of the ids within the drawing; differs between the drawings of one page.

    Returns:
        An `<svg>` element, see `svg.draw`.
    """

    def paint(axes: Axes) -> None:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: tick(100 * value)))
            axis.set_major_locator(FixedLocator([0.0, 0.25, 0.5, 0.75, 1.0]))
        axes.set(xlim=(-0.02, 1.02), ylim=(0.0, 1.02))
        axes.set_xlabel("Hidden fraction of the image (%)")
        axes.set_ylabel("Accuracy (%)")
        axes.set_title(panel.title, fontsize="medium", color=INK, loc="left")
        for place, line in enumerate(lines):
            points = [
                row
                for row in select(line.rows, measure=_DRAWN)
                if row.value is not None and (row.parameters["family"], row.parameters["order"]) == panel
            ]
            if points:
                _draw_line(axes, line, points, 0.04 + 0.92 * (place + 0.5) / len(lines))

    return draw(paint, PANEL, identity, f"{_LABEL}, {panel.title}")


def _draw_line(axes: Axes, line: Line, points: Sequence[Row], label_at: float) -> None:
    hidden = np.array([point.parameters["hidden_fraction"] for point in points], dtype=np.float64)
    low, value, high = (
        np.array([getattr(point, name) for point in points], dtype=np.float64) for name in ("low", "value", "high")
    )
    colour = network_colour(line.network)
    width, alpha, order = (2.0, 1.0, 3) if line.emphasised else (1.0, 0.75, 2)
    axes.plot(hidden, value, color=colour, linewidth=width, alpha=alpha, zorder=order)
    if line.emphasised:
        axes.fill_between(hidden, low, high, color=colour, alpha=0.13, linewidth=0, zorder=1)
    x = float(hidden[0] + label_at * (hidden[-1] - hidden[0]))
    axes.text(
        x,
        float(np.interp(x, hidden, value)),
        str(line.network.number),
        ha="center",
        va="center",
        fontsize="small",
        color=colour,
        fontweight="bold",
        zorder=5,
    )
