"""Retention curves: accuracy drawn as small multiples, one panel for each curve, and the scores of every metric."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FixedLocator, FuncFormatter

from maskrobust.lm_modules.reliance.catalogue import catalogue
from maskrobust.lm_modules.reliance.results import Row, only, select
from maskrobust.train.report.results import Network, Results
from maskrobust.train.report.svg import INK, ChartSize, as_svg, draw_frame, drawing_settings, network_colour, tick
from maskrobust.train.report.tables import Cell, CellWriter
from maskrobust.train.report.wording import capitalised, family_title, method_title

_DRAWN, _SCORE = "curve_accuracy", "_score"
_LABEL = "Chart: accuracy against the hidden fraction of the image"
_SIZES = {"wide": (960, 225, 13), "narrow": (350, 190, 12)}
"""Width of a drawing, height of a row of panels, and size of the font, in pixels."""


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
        charts: (size, drawing).
        tables: one for each metric.
    """

    identity: str
    title: str
    charts: list[tuple[str, str]]
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
    charts = [(name, curve_chart(lines, name, f"{identity}-{name}")) for name in ("wide", "narrow")]
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


def curve_chart(lines: Sequence[Line], name: str, identity: str) -> str:
    """Accuracy against the hidden fraction, in every panel on the same axes.

    Lines carry the numbers of their networks at places of their own, so that no two numbers meet.

    Args:
        lines: at least one.
        name: "wide", one column for each order, for screens and paper; or "narrow", a single column, for phones.
        identity: prefix of the ids within the drawing; differs between the drawings of one page.

    Returns:
        An `<svg>` element, see `as_svg`.
    """
    panels = curve_panels(lines)
    columns = len({panel.order for panel in panels}) if name == "wide" else 1
    rows = -(-len(panels) // columns)
    width, height, font_size = _SIZES[name]
    size = ChartSize(width, 60 + height * rows, font_size)
    with drawing_settings(size, identity):
        canvas = Canvas(figsize=(size.width / 72, size.height / 72), layout="constrained")
        grid = canvas.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            _draw_panel(axes, panel, lines, size)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        canvas.supxlabel("Hidden fraction of the image (%)", fontsize=size.font_size, color=INK)
        canvas.supylabel("Accuracy (%)", fontsize=size.font_size, color=INK)
        return as_svg(canvas, size, identity, _LABEL)


def _draw_panel(axes: Axes, panel: Panel, lines: Sequence[Line], size: ChartSize) -> None:
    draw_frame(axes)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: tick(100 * value)))
        axis.set_major_locator(FixedLocator([0.0, 0.25, 0.5, 0.75, 1.0]))
    axes.set(xlim=(-0.02, 1.02), ylim=(0.0, 1.02))
    axes.tick_params(labelsize=size.font_size - 2)
    axes.set_title(panel.title, fontsize=size.font_size - 1, color=INK, loc="left")
    for place, line in enumerate(lines):
        points = [
            row
            for row in select(line.rows, measure=_DRAWN)
            if row.value is not None and (row.parameters["family"], row.parameters["order"]) == panel
        ]
        if points:
            _draw_line(axes, line, points, 0.04 + 0.92 * (place + 0.5) / len(lines), size.font_size)


def _draw_line(axes: Axes, line: Line, points: Sequence[Row], label_at: float, font_size: int) -> None:
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
        fontsize=font_size - 3,
        color=colour,
        fontweight="bold",
        zorder=5,
    )
