"""Retention curves as small multiples: one panel for each family and order, one line for each network."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FixedLocator, FuncFormatter

from maskrobust.train.report.networks import Network
from maskrobust.train.report.svg import INK, ChartSize, as_svg, draw_frame, drawing_settings, network_colour, tick
from maskrobust.train.report.wording import family_title

DRAWN_METRIC = "accuracy"

_LABEL = "Chart: accuracy against the hidden share of the image"
_WIDE_PANEL, _NARROW_PANEL = 225, 190
"""Heights in pixels."""


class CurveLine(NamedTuple):
    """The curves of one network under one masking method.

    Attributes:
        network: whose they are.
        emphasised: whether it stands out, with its intervals; the others are thin.
        curves: "points" and "score" by family, order and metric.
    """

    network: Network
    emphasised: bool
    curves: Mapping[str, Mapping[str, Mapping[str, Any]]]


class CurvePanel(NamedTuple):
    """One family and order.

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


def curve_panels(lines: Sequence[CurveLine]) -> list[CurvePanel]:
    """Every family and order that any network was asked under, families first."""
    families = dict.fromkeys(family for line in lines for family in line.curves)
    orders = dict.fromkeys(order for line in lines for by_order in line.curves.values() for order in by_order)
    return [
        CurvePanel(family, order)
        for family in families
        for order in orders
        if any(order in line.curves.get(family, {}) for line in lines)
    ]


def curve_sizes(panels: Sequence[CurvePanel]) -> dict[str, ChartSize]:
    """One drawing with a column for each order for screens and paper, one with a single column for phones."""
    rows = len({panel.family for panel in panels})
    return {
        "wide": ChartSize(960, 60 + _WIDE_PANEL * rows, font_size=13),
        "narrow": ChartSize(350, 60 + _NARROW_PANEL * len(panels), font_size=12),
    }


def curve_chart(lines: Sequence[CurveLine], name: str, identity: str) -> str:
    """Accuracy against the hidden share, in every panel on the same axes.

    Lines carry the numbers of their networks at places of their own, so that no two numbers meet.

    Args:
        lines: at least one.
        name: "wide" or "narrow", as in `curve_sizes`.
        identity: prefix of the ids within the drawing; differs between the drawings of one page.

    Returns:
        An `<svg>` element, see `as_svg`.
    """
    panels = curve_panels(lines)
    size = curve_sizes(panels)[name]
    columns = len({panel.order for panel in panels}) if name == "wide" else 1
    with drawing_settings(size, identity):
        canvas = Canvas(figsize=(size.width / 72, size.height / 72), layout="constrained")
        grid = canvas.subplots(-(-len(panels) // columns), columns, sharex=True, sharey=True, squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=False):
            _draw_panel(axes, panel, lines, size)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        canvas.supxlabel("Hidden share of the image (%)", fontsize=size.font_size, color=INK)
        canvas.supylabel("Accuracy (%)", fontsize=size.font_size, color=INK)
        return as_svg(canvas, size, identity, _LABEL)


def _draw_panel(axes: Axes, panel: CurvePanel, lines: Sequence[CurveLine], size: ChartSize) -> None:
    draw_frame(axes)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: tick(100 * value)))
        axis.set_major_locator(FixedLocator([0.0, 0.25, 0.5, 0.75, 1.0]))
    axes.set(xlim=(-0.02, 1.02), ylim=(0.0, 1.02))
    axes.tick_params(labelsize=size.font_size - 2)
    axes.set_title(panel.title, fontsize=size.font_size - 1, color=INK, loc="left")
    for place, line in enumerate(lines):
        metrics = line.curves.get(panel.family, {}).get(panel.order)
        if metrics is not None:
            label_at = 0.04 + 0.92 * (place + 0.5) / len(lines)
            _draw_line(axes, line, metrics[DRAWN_METRIC]["points"], label_at, size.font_size)


def _draw_line(
    axes: Axes, line: CurveLine, points: Sequence[Mapping[str, Any]], label_at: float, font_size: int
) -> None:
    defined = [point for point in points if point["value"] is not None]
    if not defined:
        return
    hidden, values = ([point[key] for point in defined] for key in ("hidden_fraction", "value"))
    colour = network_colour(line.network.number - 1)
    width, alpha, order = (2.0, 1.0, 3) if line.emphasised else (1.0, 0.75, 2)
    axes.plot(hidden, values, color=colour, linewidth=width, alpha=alpha, zorder=order)
    bounded = [point for point in defined if point["low"] is not None and point["high"] is not None]
    if line.emphasised and bounded:
        shares, low, high = ([point[key] for point in bounded] for key in ("hidden_fraction", "low", "high"))
        axes.fill_between(shares, low, high, color=colour, alpha=0.13, linewidth=0, zorder=1)
    x = hidden[0] + label_at * (hidden[-1] - hidden[0])
    axes.text(
        x,
        float(np.interp(x, hidden, values)),
        str(line.network.number),
        ha="center",
        va="center",
        fontsize=font_size - 3,
        color=colour,
        fontweight="bold",
        zorder=5,
    )
