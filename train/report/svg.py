"""Drawings as SVG whose colours and fonts are left to the page: one drawing serves light and dark."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
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


def network_colour(network: Network) -> str:
    """The colour of a network; becomes `var(--arm-N)`."""
    return _NETWORK.format(network.colour)


@contextmanager
def drawing_settings(size: ChartSize, identity: str) -> Iterator[None]:
    """Matplotlib's settings while a drawing is made; its ids depend on `identity` alone."""
    with mpl.rc_context({**_SETTINGS, "font.size": size.font_size, "svg.hashsalt": identity}):
        yield


def draw_frame(axes: Axes) -> None:
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


def as_svg(canvas: Canvas, size: ChartSize, identity: str, label: str) -> str:
    """The drawing as an `<svg>` element, to be called within its `drawing_settings`.

    Args:
        canvas: the drawing.
        size: of the drawing.
        identity: prefix of the ids within the drawing; differs between the drawings of one page.
        label: says what is drawn, for those who cannot see it.

    Returns:
        An element that depends on the arguments alone. Colours are `currentColor`, `var(--accent)` and
        `var(--arm-N)`, text is text.
    """
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
        rf'viewBox="\g<1>" style="max-width: {size.width}px" aria-label="{label}">'
    )
