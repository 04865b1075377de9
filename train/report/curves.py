"""The retention curves of a page: drawings, and the scores of every metric as tables."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

from maskrobust.train.report.cells import Cell, CellWriter
from maskrobust.train.report.curve_chart import CurveLine, CurvePanel, curve_chart, curve_panels
from maskrobust.train.report.networks import Network
from maskrobust.train.report.wording import capitalised, decimal, family_title, percent

METRICS: dict[str, tuple[str, Callable[[float], str]]] = {
    "accuracy": ("Accuracy", percent),
    "unchanged": ("Unchanged predictions", percent),
    "class_entropy": ("Class entropy (nats)", decimal),
    "wordnet_similarity": ("WordNet similarity", decimal),
}
"""Title and way of writing of each metric."""

CURVE_DEFINITION = (
    "A share of the image is hidden, segment by segment (square patches, or superpixels of SLIC and quickshift): in "
    "random order, or those that overlap most or least with the object first. The score is the mean over the curve. "
    "Unchanged: predictions equal to those with nothing hidden. Class entropy: of the histogram of predictions; where "
    "a network falls back to few classes it is low. WordNet similarity: of the predicted and the true class, where the "
    "classes are WordNet's."
)


class ScoreTable(NamedTuple):
    """The scores of one metric.

    Attributes:
        metric: its name.
        title: its title.
        families: title and number of columns of each family.
        orders: headings of the columns.
        rows: the networks, each with a cell for each column.
    """

    metric: str
    title: str
    families: list[tuple[str, int]]
    orders: list[str]
    rows: list[tuple[Network, list[Cell]]]


class Curves(NamedTuple):
    """The curves of several networks.

    Attributes:
        identity: of their element.
        title: heading; empty for none.
        charts: (size, drawing) of the metric that is drawn.
        tables: one for each metric.
        emphasised: how many networks stand out.
    """

    identity: str
    title: str
    charts: list[tuple[str, str]]
    tables: list[ScoreTable]
    emphasised: int


def curves_of(lines: Sequence[CurveLine], cells: CellWriter, identity: str = "curves", title: str = "") -> Curves:
    """Drawings and tables.

    Args:
        lines: at least one, with curves.
        cells: writes the cells.
        identity: of the element, and prefix of the ids within it.
        title: heading.
    """
    panels = curve_panels(lines)
    charts = [(name, curve_chart(lines, name, f"{identity}-{name}")) for name in ("wide", "narrow")]
    present = {
        metric for line in lines for orders in line.curves.values() for each in orders.values() for metric in each
    }
    tables = [_scores(lines, panels, metric, cells) for metric in METRICS if metric in present]
    return Curves(identity, title, charts, tables, sum(line.emphasised for line in lines))


def _scores(lines: Sequence[CurveLine], panels: Sequence[CurvePanel], metric: str, cells: CellWriter) -> ScoreTable:
    title, write = METRICS[metric]
    families = [
        (family_title(family), len(list(group))) for family, group in groupby(panels, key=lambda panel: panel.family)
    ]
    rows = []
    for line in lines:
        metrics = [line.curves.get(panel.family, {}).get(panel.order, {}) for panel in panels]
        scores = [found[metric]["score"] if metric in found else None for found in metrics]
        rows.append((line.network, [cells.write(score, write) for score in scores]))
    return ScoreTable(metric, title, families, [capitalised(panel.order.replace("_", " ")) for panel in panels], rows)
