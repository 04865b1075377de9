"""Draw charts as SVG whose colours and fonts the page decides, for light and dark, wide and narrow."""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, MaxNLocator

from maskrobust.lm_modules.reliance.results import Row
from maskrobust.train.storage.files import printable

INK = "#fd0000"
"""Becomes `currentColor`."""

ACCENT = "#fd0001"
"""Becomes `var(--accent)`."""

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 12,
    "path.simplify": False,
    "text.parse_math": False,
}
_GROWTH = 1.3
"""How far a page may enlarge a drawing."""

_PANEL = 300, 230
"""Width and height in CSS pixels of a panel at its natural scale; the width is at most that of a phone's screen."""


class Curve(NamedTuple):
    """One line of a chart.

    Attributes:
        colour: number of a colour of the page.
        x: where its points lie.
        y: the values of the points.
        low: lower ends of their intervals; None for no band.
        high: upper ends.
        label: short text on the line; empty for none.
        strong: whether it stands out; the others are thin, without a band.
        dashed: whether it is.
    """

    colour: int
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float | None] | None = None
    high: Sequence[float | None] | None = None
    label: str = ""
    strong: bool = True
    dashed: bool = False

    @classmethod
    def of(cls, rows: Sequence[Row], colour: int, label: str, *, strong: bool = True) -> "Curve":
        """The values of rows against their hidden fraction, in its order; undefined ones are passed over."""
        points = sorted(
            (float(row.parameters["hidden_fraction"]), row.value, row.low, row.high)
            for row in rows
            if row.value is not None
        )
        x, y, low, high = zip(*points, strict=True) if points else [()] * 4
        return cls(colour, x, y, low, high, label, strong)


def colour_of(number: int) -> str:
    """The page's colour of that number, for matplotlib; becomes `var(--arm-N)`."""
    return f"#fe00{number:02x}"


def line_chart(
    curves: Sequence[Curve],
    identity: str,
    title: str,
    x_label: str,
    y_label: str,
    *,
    label: str,
    limits: tuple[float, float] | None = None,
) -> Markup:
    """Values against a parameter, a panel of several.

    Lines carry their labels at places of their own, so that no two labels meet.

    Args:
        curves: the lines; those without a point are passed over.
        identity: see `draw`, as for `label`.
        title: above the axes.
        x_label: label of the horizontal axis, which shows fractions in [0, 1] as percentages.
        y_label: label of the vertical axis, which does the same.
        label: what is drawn; the title follows.
        limits: limits of the vertical axis.
    """

    def paint(axes: Axes) -> None:
        axes.set_title(title, fontsize="medium", color=INK, loc="left")
        axes.set(xlabel=x_label, ylabel=y_label)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: tick(100 * value)))
        axes.set_xticks([0.0, 0.25, 0.5, 0.75, 1.0])
        axes.set(xlim=(-0.02, 1.02))
        axes.set_ylim(*(limits or (0.0, 1.02)))
        for place, curve in enumerate(curves):
            if len(curve.x):
                _draw_curve(axes, curve, 0.04 + 0.92 * (place + 0.5) / len(curves))

    return draw(paint, identity, f"{label}, {title}")


def _draw_curve(axes: Axes, curve: Curve, label_at: float) -> None:
    x, y, colour = np.asarray(curve.x, dtype=float), np.asarray(curve.y, dtype=float), colour_of(curve.colour)
    width, alpha, order = (2.0, 1.0, 3) if curve.strong else (1.0, 0.75, 2)
    mark = {"marker": "o", "markersize": 4} if len(x) < 5 else {}
    dashes: Any = "--" if curve.dashed else "-"
    axes.plot(x, y, dashes, color=colour, linewidth=width, alpha=alpha, zorder=order, **mark)  # type: ignore[arg-type]
    if curve.strong and curve.low is not None and curve.high is not None:
        low, high = (np.asarray(ends, dtype=float) for ends in (curve.low, curve.high))
        axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0, zorder=1)
    at = float(x[0] + label_at * (x[-1] - x[0]))
    axes.text(
        at, float(np.interp(at, x, y)), curve.label, ha="center", va="center", fontsize="small", color=colour,
        fontweight="bold", zorder=5,
    )  # fmt: skip


def draw(paint: Callable[[Axes], None], identity: str, label: str, size: tuple[int, int] = _PANEL) -> Markup:
    """One pair of axes with a pale grid as an `<svg>` element.

    Args:
        paint: draws into the axes.
        identity: prefix of the ids within the drawing; differs between the drawings of one page.
        label: says what is drawn, for those who cannot see it.
        size: width and height in CSS pixels.

    Returns:
        An element that depends on the arguments alone. Colours are `currentColor`, `var(--accent)` and
        `var(--arm-N)`, text is text.
    """
    with mpl.rc_context({**_SETTINGS, "svg.hashsalt": identity}):
        canvas = Canvas(figsize=(size[0] / 72, size[1] / 72), layout="constrained")
        axes = canvas.add_subplot()
        _draw_frame(axes)
        paint(axes)
        return _as_svg(canvas, size[0], identity, label)


def _draw_frame(axes: Axes) -> None:
    """A pale grid and quiet ticks in place of a box."""
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axis.label.set_color(INK)
    axes.grid(color=INK, alpha=0.12, linewidth=0.8)
    axes.tick_params(color=INK, labelcolor=INK, length=0)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)


def tick(value: float) -> str:
    """A number at an axis."""
    return f"{round(value, 6) or 0:.10g}".replace("-", "−")


def _as_svg(canvas: Canvas, width: int, identity: str, label: str) -> Markup:
    buffer = io.BytesIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    canvas.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue().decode()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    opening = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
        f'style="max-width: {round(_GROWTH * width)}px" aria-label="{escape(printable(label))}"'
    )
    svg = re.sub(r'^<svg [^>]*?(viewBox="[^"]*")[^>]*>', lambda found: f"{opening} {found[1]}>", svg)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{identity}-", svg)
    svg = re.sub(r"#fe00([0-9a-f]{2})", lambda found: f"var(--arm-{int(found[1], 16)})", svg)
    return Markup(svg.replace(INK, "currentColor").replace(ACCENT, "var(--accent)"))
