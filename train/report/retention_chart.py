"""The chart of a claim: retention against reliance."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.markers import MarkerStyle
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import Affine2D

from maskrobust.train.report.svg import (
    ACCENT,
    INK,
    ChartSize,
    as_svg,
    draw_frame,
    drawing_settings,
    network_colour,
    tick,
)
from maskrobust.train.report.wording import Figure, hidden_share

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
_LABEL = "Chart: accuracy with patches hidden against used share of the outline"

CHART_SIZES = {"wide": ChartSize(760, 440, font_size=13), "narrow": ChartSize(350, 360, font_size=12)}
"""One drawing for screens and paper, one for phones; the page shows the one that fits."""


class Point(NamedTuple):
    """One arm under one masking method.

    Attributes:
        arm: position of the arm, from 0.
        method: position of the masking method, from 0.
        own: whether it is the arm's own method, under which the rule looks at it.
        retention: accuracy with patches hidden at random.
        used_share: the headline.
    """

    arm: int
    method: int
    own: bool
    retention: Figure
    used_share: Figure


def marker_points(method: int) -> str:
    """The marker of the masking method at a position from 0, as `points` of an SVG polygon within ±10."""
    style = MarkerStyle(_MARKERS[method % len(_MARKERS)])
    outline = style.get_path().transformed(style.get_transform()).transformed(Affine2D().scale(16.0)).to_polygons()[0]
    corners = np.asarray(outline, dtype=np.float64)
    return " ".join(f"{x:.1f},{-y:.1f}" for x, y in corners)


def chart_points(claim: Mapping[str, Any]) -> tuple[list[Point], list[Point]]:
    """All arms under all methods, parted into those that can be drawn and those with an undefined figure."""
    drawn: list[Point] = []
    left_out: list[Point] = []
    for arm, entry in enumerate(claim["arms"].values()):
        for method, name in enumerate(claim["methods"]):
            figures = entry["methods"][name]["all_seeds"]
            point = Point(arm, method, name == entry["method"], figures["retention"], figures["used_share"])
            defined = point.retention["value"] is not None and point.used_share["value"] is not None
            (drawn if defined else left_out).append(point)
    return drawn, left_out


def retention_chart(claim: Mapping[str, Any], size: ChartSize, identity: str) -> str:
    """Retention (x) against used share (y) of every arm under every masking method.

    Under its own method an arm is a large mark with its number and both intervals, under the others a small pale mark.
    A dashed line marks zero. A shaded band on both sides of it holds the used
    shares whose magnitude exceeds the layer-masking arm's by no more than the margin of the rule.

    Args:
        claim: the content of claim.json.
        size: of the drawing.
        identity: prefix of the ids within the drawing; differs between the drawings of one page.

    Returns:
        An `<svg>` element that depends on the arguments alone. Colours are `currentColor`, `var(--accent)` and
        `var(--arm-N)`, text is text. Empty when no point can be drawn.
    """
    drawn, _ = chart_points(claim)
    if not drawn:
        return ""
    with drawing_settings(size, identity):
        canvas = Canvas(figsize=(size.width / 72, size.height / 72), layout="constrained")
        axes = canvas.add_subplot()
        _draw_axes(axes, hidden_share(claim["hidden_fraction"]))
        _draw_margin(axes, claim)
        for point in drawn:
            _draw_point(axes, point, size.font_size)
        return as_svg(canvas, size, identity, _LABEL)


def _draw_axes(axes: Axes, hidden: str) -> None:
    draw_frame(axes)
    axes.set_xlabel(f"Accuracy with {hidden} of the patches hidden (%)")
    axes.set_ylabel("Used share of the outline")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(100 * value)))
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.axhline(0.0, color=INK, alpha=0.55, linewidth=1.0, linestyle=(0, (4, 3)))
    axes.margins(0.08)


def _draw_margin(axes: Axes, claim: Mapping[str, Any]) -> None:
    limit = reliance_limit(claim)
    if limit is not None:
        axes.axhspan(-limit, limit, color=ACCENT, alpha=0.14, linewidth=0)


def reliance_limit(claim: Mapping[str, Any]) -> float | None:
    """Reliance of the layer-masking arm under its own method, plus the margin; None where it is not known."""
    arm = claim["arms"].get(claim["rule"]["layer_masking_arm"])
    if arm is None or arm["method"] not in arm["methods"]:
        return None
    share: float | None = arm["methods"][arm["method"]]["all_seeds"]["used_share"]["value"]
    return None if share is None else abs(share) + float(claim["rule"]["margin"])


def _draw_point(axes: Axes, point: Point, font_size: int) -> None:
    x, y = point.retention["value"], point.used_share["value"]
    colour = network_colour(point.arm)
    marker = _MARKERS[point.method % len(_MARKERS)]
    if not point.own:
        axes.plot([x], [y], marker=marker, color=colour, markersize=5.5, markeredgewidth=0, alpha=0.6, zorder=2)
        return
    for figure, horizontal in ((point.retention, True), (point.used_share, False)):
        if figure["low"] is not None and figure["high"] is not None:
            ends = [figure["low"], figure["high"]]
            axes.plot(*((ends, [y, y]) if horizontal else ([x, x], ends)), color=colour, linewidth=1.6, alpha=0.5)
    axes.plot([x], [y], marker=marker, color=colour, markersize=9, markeredgewidth=0, zorder=3)
    axes.annotate(
        str(point.arm + 1),
        (x, y),
        xytext=(6, 5),
        textcoords="offset points",
        fontsize=font_size - 2,
        color=colour,
        fontweight="bold",
        zorder=4,
    )
