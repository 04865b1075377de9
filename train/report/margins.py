"""The leak against the margin that is hidden around the object: a panel for each masking method."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from maskrobust.lm_modules.reliance.results import Row, select
from maskrobust.train.report.results import Results
from maskrobust.train.report.svg import INK, PANEL, draw, network_colour
from maskrobust.train.report.wording import method_title

_LABEL = "Chart: leak against the margin around the object"


def margins_section(results: Results) -> dict[str, Any] | None:
    """A chart for each masking method; None where the leak was measured with fewer than two margins."""
    rows = [row for row in select(results.over_seeds, measure="margin_leak") if row.value is not None]
    if len({row.parameters["margin"] for row in rows}) < 2:
        return None
    ends = [end for row in rows for end in (row.low, row.value, row.high) if end is not None]
    spare = 0.05 * (max(ends) - min(ends)) or 0.01
    limits = min(*ends, 0.0) - spare, max(*ends, 0.0) + spare
    return {
        "charts": [
            margins_chart(results, select(rows, method=method), limits)
            for method in results.methods
            if select(rows, method=method)
        ]
    }


def margins_chart(results: Results, rows: Sequence[Row], limits: tuple[float, float]) -> str:
    """The leak of each network with its interval under one masking method.

    Args:
        results: whose rows they are.
        rows: of the measure "margin_leak" under that method, all with a value.
        limits: of the leak's axis, the same for all masking methods.

    Returns:
        An `<svg>` element, see `svg.draw`.
    """
    method = rows[0].method

    def paint(axes: Axes) -> None:
        axes.axhline(0.0, color=INK, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
        axes.set_title(method_title(method), fontsize="medium", color=INK, loc="left")
        axes.set_xlabel("Margin around the object (pixels)")
        axes.set_ylabel("Leak")
        axes.set_ylim(*limits)
        for network in results.networks:
            _draw_line(axes, select(rows, network=network.name), network_colour(network))

    return draw(paint, PANEL, f"margins-{list(results.methods).index(method)}", f"{_LABEL}, {method_title(method)}")


def _draw_line(axes: Axes, rows: Sequence[Row], colour: str) -> None:
    points = sorted(rows, key=lambda row: float(row.parameters["margin"]))
    margins = np.array([row.parameters["margin"] for row in points], dtype=np.float64)
    low, value, high = (
        np.array([getattr(row, end) for row in points], dtype=np.float64) for end in ("low", "value", "high")
    )
    axes.plot(margins, value, color=colour, linewidth=2.0, marker="o", markersize=4, zorder=3)
    axes.fill_between(margins, low, high, color=colour, alpha=0.13, linewidth=0, zorder=1)
