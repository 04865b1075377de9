"""The chart of a claim as SVG whose colours and fonts are left to the page: one drawing serves light and dark."""

import io
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.markers import MarkerStyle
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import Affine2D

from train.report.wording import Figure, hidden_share

ARM_COLOURS = 12
"""Number of colours that the page defines: the variables --arm-1 to --arm-12."""

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
_INK = "#fd0000"
_ACCENT = "#fd0001"
_ARM = "#fe00{:02x}"
_SETTINGS: dict[Any, Any] = {"svg.fonttype": "none", "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"]}


class ChartSize(NamedTuple):
    """Size of a drawing in CSS pixels at its natural scale.

    Attributes:
        width: in pixels.
        height: in pixels.
        font_size: in pixels.
    """

    width: int
    height: int
    font_size: int


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


def arm_number(position: int) -> int:
    """Number, from 1, of the colour of the arm at a position from 0; after `ARM_COLOURS` arms they come again."""
    return position % ARM_COLOURS + 1


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
    with mpl.rc_context({**_SETTINGS, "font.size": size.font_size, "svg.hashsalt": identity}):
        canvas = Canvas(figsize=(size.width / 72, size.height / 72), layout="constrained")
        axes = canvas.add_subplot()
        _draw_frame(axes, hidden_share(claim["hidden_fraction"]))
        _draw_margin(axes, claim)
        for point in drawn:
            _draw_point(axes, point, size.font_size)
        buffer = io.BytesIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        canvas.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    return _for_the_page(buffer.getvalue().decode(), size, identity)


def _draw_frame(axes: Axes, hidden: str) -> None:
    axes.set_xlabel(f"Accuracy with {hidden} of the patches hidden (%)")
    axes.set_ylabel("Used share of the outline")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(100 * value)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.grid(color=_INK, alpha=0.12, linewidth=0.8)
    axes.axhline(0.0, color=_INK, alpha=0.55, linewidth=1.0, linestyle=(0, (4, 3)))
    axes.margins(0.08)
    axes.tick_params(color=_INK, labelcolor=_INK, length=0)
    axes.set_axisbelow(True)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(_INK)
    for side in axes.spines.values():
        side.set_visible(False)


def _tick(value: float) -> str:
    return f"{round(value, 6) or 0:.10g}".replace("-", "−")


def _draw_margin(axes: Axes, claim: Mapping[str, Any]) -> None:
    limit = reliance_limit(claim)
    if limit is not None:
        axes.axhspan(-limit, limit, color=_ACCENT, alpha=0.14, linewidth=0)


def reliance_limit(claim: Mapping[str, Any]) -> float | None:
    """Reliance of the layer-masking arm under its own method, plus the margin; None where it is not known."""
    arm = claim["arms"].get(claim["rule"]["layer_masking_arm"])
    if arm is None or arm["method"] not in arm["methods"]:
        return None
    share: float | None = arm["methods"][arm["method"]]["all_seeds"]["used_share"]["value"]
    return None if share is None else abs(share) + float(claim["rule"]["margin"])


def _draw_point(axes: Axes, point: Point, font_size: int) -> None:
    x, y = point.retention["value"], point.used_share["value"]
    colour = _ARM.format(arm_number(point.arm))
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


def _for_the_page(svg: str, size: ChartSize, identity: str) -> str:
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'^<svg [^>]*?viewBox="([^"]*)"[^>]*>', _opening_tag(size), svg)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{identity}-", svg)
    svg = re.sub(r"#fe00([0-9a-f]{2})", lambda found: f"var(--arm-{int(found[1], 16)})", svg)
    return svg.replace(_INK, "currentColor").replace(_ACCENT, "var(--accent)")


def _opening_tag(size: ChartSize) -> str:
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
        rf'viewBox="\g<1>" style="max-width: {size.width}px" '
        'aria-label="Chart: accuracy with patches hidden against used share of the outline">'
    )
