"""Drawings as SVG whose colours and fonts are left to the page: one drawing serves light and dark."""

import io
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, MaxNLocator

from maskrobust.train.report.results import Network

INK = "#fd0000"
"""Becomes `currentColor`."""

ACCENT = "#fd0001"
"""Becomes `var(--accent)`."""

_NETWORK = "#fe00{:02x}"
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "path.simplify": False,
}


_FONT_SIZE = 12
_GROWTH = 1.3
"""How far a page may enlarge a drawing."""


class ChartSize(NamedTuple):
    """Size of a drawing in CSS pixels at its natural scale.

    Attributes:
        width: in pixels, at most that of a phone's screen.
        height: in pixels.
    """

    width: int
    height: int


PANEL = ChartSize(300, 230)
"""Size of one of several panels, which the page puts beside and below each other as there is room."""


def network_colour(network: Network) -> str:
    """The colour of a network; becomes `var(--arm-N)`."""
    return _NETWORK.format(network.colour)


def draw(paint: Callable[[Axes], None], size: ChartSize, identity: str, label: str) -> str:
    """One pair of axes with a pale grid as an `<svg>` element.

    Args:
        paint: draws into the axes.
        size: of the drawing.
        identity: prefix of the ids within the drawing; differs between the drawings of one page.
        label: says what is drawn, for those who cannot see it.

    Returns:
        An element that depends on the arguments alone. Colours are `currentColor`, `var(--accent)` and
        `var(--arm-N)`, text is text.
    """
    with mpl.rc_context({**_SETTINGS, "font.size": _FONT_SIZE, "svg.hashsalt": identity}):
        canvas = Canvas(figsize=(size.width / 72, size.height / 72), layout="constrained")
        axes = canvas.add_subplot()
        _draw_frame(axes)
        paint(axes)
        return _as_svg(canvas, size, identity, label)


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


def _as_svg(canvas: Canvas, size: ChartSize, identity: str, label: str) -> str:
    buffer = io.BytesIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    canvas.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue().decode()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'^<svg [^>]*?viewBox="([^"]*)"[^>]*>', _opening_tag(size, label), svg)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{identity}-", svg)
    svg = re.sub(r"#fe00([0-9a-f]{2})", lambda found: f"var(--arm-{int(found[1], 16)})", svg)
    return svg.replace(INK, "currentColor").replace(ACCENT, "var(--accent)")


def _opening_tag(size: ChartSize, label: str) -> str:
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
        rf'viewBox="\g<1>" style="max-width: {round(_GROWTH * size.width)}px" aria-label="{label}">'
    )
