"""The leak against the margin that is hidden around the object: a panel for each masking method."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from maskrobust.lm_modules.reliance.results import Row, select
from maskrobust.train.report.results import Results
from maskrobust.train.report.svg import INK, ChartSize, as_svg, draw_frame, drawing_settings, network_colour
from maskrobust.train.report.wording import method_title

_LABEL = "Chart: leak against the margin around the object"
_SIZES = {"wide": (960, 250, 13, 3), "narrow": (350, 210, 12, 1)}
"""Width of a drawing, height of a row of panels, and size of the font, in pixels; then the panels in a row, at most."""


def margins_section(results: Results) -> dict[str, Any] | None:
    """The charts of both sizes; None where the leak was measured with fewer than two margins."""
    rows = [row for row in select(results.over_seeds, measure="margin_leak") if row.value is not None]
    if len({row.parameters["margin"] for row in rows}) < 2:
        return None
    return {"charts": [(name, margins_chart(results, rows, name)) for name in _SIZES]}


def margins_chart(results: Results, rows: Sequence[Row], name: str) -> str:
    """The leak of each network with its interval, on the same axes for all masking methods.

    Args:
        results: whose rows they are.
        rows: of the measure "margin_leak", all with a value.
        name: "wide", for screens and paper; or "narrow", a single column, for phones.

    Returns:
        An `<svg>` element, see `as_svg`.
    """
    methods = [method for method in results.methods if select(rows, method=method)]
    width, height, font_size, across = _SIZES[name]
    columns = min(across, len(methods))
    lines = -(-len(methods) // columns)
    size = ChartSize(width, 50 + height * lines, font_size)
    identity = f"margins-{name}"
    with drawing_settings(size, identity):
        canvas = Canvas(figsize=(size.width / 72, size.height / 72), layout="constrained")
        grid = canvas.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        for axes, method in zip(grid.flat, methods, strict=False):
            draw_frame(axes)
            axes.axhline(0.0, color=INK, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
            axes.tick_params(labelsize=size.font_size - 2)
            axes.set_title(method_title(method), fontsize=size.font_size - 1, color=INK, loc="left")
            for network in results.networks:
                _draw_line(axes, select(rows, network=network.name, method=method), network_colour(network))
        for axes in grid.flat[len(methods) :]:
            axes.set_axis_off()
        canvas.supxlabel("Margin around the object (pixels)", fontsize=size.font_size, color=INK)
        canvas.supylabel("Leak", fontsize=size.font_size, color=INK)
        return as_svg(canvas, size, identity, _LABEL)


def _draw_line(axes: Axes, rows: Sequence[Row], colour: str) -> None:
    points = sorted(rows, key=lambda row: float(row.parameters["margin"]))
    margins = np.array([row.parameters["margin"] for row in points], dtype=np.float64)
    low, value, high = (
        np.array([getattr(row, end) for row in points], dtype=np.float64) for end in ("low", "value", "high")
    )
    axes.plot(margins, value, color=colour, linewidth=2.0, marker="o", markersize=4, zorder=3)
    axes.fill_between(margins, low, high, color=colour, alpha=0.13, linewidth=0, zorder=1)
