"""The claim in a terminal: a table that folds its intervals where the line is short, and the verdict in a frame."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from maskrobust.train.report.comparisons import comparison_rows, is_compared
from maskrobust.train.report.wording import CONCLUSIONS, Figure, hidden_share

_COLUMNS = {
    "clean_accuracy": "clean",
    "retention": "{hidden} hidden",
    "silhouette_accuracy": "silhouette",
    "silhouette_leak": "leak",
    "swap_pull": "pull",
    "used_share": "used share",
}
_COLOURS = {"supported": "green", "refuted": "red", "undecided": "yellow"}


class FigureCell(NamedTuple):
    """A figure with its interval, as in ".26 [.22, .30]"; on two or three lines where there is no room for one.

    Attributes:
        parts: the value, and the two halves of the interval where there is one.
        style: of the value, as rich writes it.
    """

    parts: tuple[str, ...]
    style: str

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        longest = max(len(part) for part in self.parts)
        return Measurement(longest, len(" ".join(self.parts))).with_maximum(options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        value, *interval = self.parts
        joined = " ".join(interval)
        text = Text(value, style=self.style, justify="right")
        if len(" ".join(self.parts)) <= options.max_width:
            text.append(f" {joined}" if joined else "", style="not bold dim")
        else:
            halves = [joined] if len(joined) <= options.max_width else interval
            text.append("".join(f"\n{half}" for half in halves), style="not bold dim")
        yield text


def claim_table(claim: Mapping[str, Any]) -> Table:
    """Arms, and under each its masking methods, with the main figures and their intervals.

    Rows that the rule compares have a bold used share. Fits 120 columns on one line per row; in fewer the intervals
    move below their values.

    Args:
        claim: the content of claim.json.
    """
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("arm, method", overflow="fold")
    for title in _COLUMNS.values():
        table.add_column(title.format(hidden=hidden_share(claim["hidden_fraction"])), justify="right")
    for name, arm in claim["arms"].items():
        table.add_row(Text(arm["title"], style="bold"))
        for method in claim["methods"]:
            style = "bold" if is_compared(claim, name, method) else ""
            figures = arm["methods"][method]["all_seeds"]
            cells = [figure_cell(figures[key], style if key == "used_share" else "") for key in _COLUMNS]
            table.add_row(Padding(Text(method.replace("_", " ")), (0, 0, 0, 2)), *cells)
    return table


def verdict_panel(claim: Mapping[str, Any]) -> Panel:
    """The claim and what has come of it, the reason, every comparison behind it, and its caveat where it has one."""
    verdict = claim["verdict"]
    colour = _COLOURS[verdict["outcome"]]
    conclusion = Text(CONCLUSIONS[verdict["outcome"]], style="bold")
    lines = [Text(f"Claim: {claim['claim']}", style="dim"), conclusion, Text(verdict["reason"])]
    for row in comparison_rows(claim):
        difference = f"{row.difference} {row.interval}".strip()
        said = row.reading if row.difference == row.reading else f"{difference}, {row.reading}"
        lines.append(Text(f"{row.title}: {said}", style="dim"))
    if verdict["caveat"] is not None:
        lines.append(Text(verdict["caveat"]))
    return Panel(
        Group(*lines), title=Text(verdict["outcome"], style=f"bold {colour}"), border_style=colour, padding=(1, 2)
    )


def figure_cell(figure: Figure, style: str = "") -> FigureCell:
    """A figure for the terminal; "undefined" where it is."""
    if figure["value"] is None:
        return FigureCell(("undefined",), "dim")
    value = short(figure["value"])
    if figure["low"] is None or figure["high"] is None:
        return FigureCell((value,), style)
    return FigureCell((value, f"[{short(figure['low'])},", f"{short(figure['high'])}]"), style)


def short(value: float) -> str:
    """Two decimals without a leading zero, as in ".26" and "-.03"; what rounds to zero has no sign."""
    text = f"{value:.2f}"
    if float(text) == 0:
        return ".00"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text
