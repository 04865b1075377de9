"""Figures as cells of tables, with footnotes for those that are undefined."""

from collections.abc import Callable
from string import ascii_lowercase
from typing import NamedTuple

from maskrobust.train.report import wording
from maskrobust.train.report.wording import Figure


class Cell(NamedTuple):
    """One figure as a table shows it.

    Attributes:
        value: the figure; "undefined" where it is.
        interval: in brackets; empty where there is none.
        note: letter of the footnote that says why the figure is undefined; empty where it is defined.
    """

    value: str
    interval: str
    note: str


class CellWriter:
    """Writes the cells of one page, and gives each reason why a figure is undefined a letter: a to z, aa, bb, ...

    Attributes:
        notes: letter by reason, in order of appearance.
    """

    def __init__(self) -> None:
        self.notes: dict[str, str] = {}

    def write(self, figure: Figure | None, write: Callable[[float], str]) -> Cell:
        """One figure; an empty cell where there is none, or a footnote's letter where it is undefined."""
        if figure is None:
            return Cell("", "", "")
        figure = with_bounds(figure)
        if figure["value"] is None:
            return Cell("undefined", "", self._letter(figure["undefined_because"]))
        return Cell(write(figure["value"]), wording.bounds(figure, write), "")

    def _letter(self, reason: str) -> str:
        place = len(self.notes)
        return self.notes.setdefault(reason, ascii_lowercase[place % 26] * (place // 26 + 1))


def with_bounds(figure: Figure) -> Figure:
    """The figure with "value", "low" and "high": those of chance for bits of information, None where there is none."""
    if "bits" in figure:
        return {**figure, "value": figure["bits"], "low": figure["null_low"], "high": figure["null_high"]}
    return {"low": None, "high": None, **figure}
