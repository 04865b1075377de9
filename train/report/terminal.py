"""Results in a terminal: a table that folds its intervals where the line is short, and the verdicts in a frame."""

from typing import Any, NamedTuple

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from maskrobust.lm_modules.reliance.catalogue import HEADLINE, catalogue
from maskrobust.lm_modules.reliance.results import Row, only, select
from maskrobust.train.report.results import Results
from maskrobust.train.report.wording import (
    CONCLUSIONS,
    capitalised,
    decimal,
    in_sentence,
    interval,
    method_title,
    methods_title,
    short,
)

_COLOURS = {"supported": "green", "refuted": "red", "undecided": "yellow"}


class TerminalCell(NamedTuple):
    """A number with its interval, as in ".26 [.22, .30]"; on two or three lines where there is no room for one.

    Attributes:
        parts: the value, and the two halves of the interval where there is one.
        style: of the value, as rich writes it.
    """

    parts: tuple[str, ...]
    style: str

    @classmethod
    def of(cls, row: Row | None, style: str = "") -> "TerminalCell":
        """The cell of a row; "undefined" where its value is, empty where there is no row."""
        if row is None or row.value is None:
            return cls(("" if row is None else "undefined",), "dim")
        return cls((short(row.value), *interval(row.low, row.high, short).split()), style)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        longest = max(len(part) for part in self.parts)
        return Measurement(longest, len(" ".join(self.parts))).with_maximum(options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        value, *bounds = self.parts
        joined = " ".join(bounds)
        text = Text(value, style=self.style, justify="right")
        if len(" ".join(self.parts)) <= options.max_width:
            text.append(f" {joined}" if joined else "", style="not bold dim")
        else:
            halves = [joined] if len(joined) <= options.max_width else bounds
            text.append("".join(f"\n{half}" for half in halves), style="not bold dim")
        yield text


def results_table(results: Results) -> Table:
    """Networks, and under each its masking methods, with the measures that have a column in the terminal.

    One that is undefined everywhere is left out, unless it is the headline.

    Lines that a claim's rule compares have a bold used share. Fits 120 columns on one line per row where no more than
    one fraction of the patches is hidden and no scenes are asked about; in fewer the intervals move below their values.
    """
    columns = [
        (measure, parameters)
        for measure in catalogue().values()
        if measure.in_terminal
        for parameters in _members(results, measure.name)
    ]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("network, method", overflow="fold")
    for measure, parameters in columns:
        table.add_column(Text(measure.heading(parameters)), justify="right")
    for network in results.networks:
        table.add_row(Text(network.title, style="bold"))
        for method in results.methods:
            rows = select(results.over_seeds, network=network.name, method=method)
            style = "bold" if results.is_compared(network, method) else ""
            cells = [
                TerminalCell.of(
                    only(rows, measure=measure.name, parameters=parameters), style if measure.name == HEADLINE else ""
                )
                for measure, parameters in columns
            ]
            table.add_row(Padding(Text(in_sentence(method_title(method))), (0, 0, 0, 2)), *cells)
    return table


def _members(results: Results, measure: str) -> list[dict[str, Any]]:
    """Parameters of the measure's members that occur with a value, in order; those of the headline in any case."""
    rows = select(results.over_seeds, measure=measure)
    found = {row.name: dict(row.parameters) for row in rows if row.value is not None or measure == HEADLINE}
    return list(found.values())


def verdict_panel(results: Results) -> Panel:
    """Both claims and what has come of them, the reasons, every comparison behind them, and their caveat, if any."""
    lines = []
    for verdict in results.verdicts:
        case, outcome = verdict["case"], verdict["outcome"]
        lines.append(Text(f"Claim: {results.content['claims'][case]}", style="dim"))
        lines.append(Text(f"{capitalised(outcome)}. {CONCLUSIONS[case][outcome]}", style=f"bold {_COLOURS[outcome]}"))
        lines.append(Text(verdict["reason"]))
        for row in select(results.comparisons, parameters={"case": case, "tolerance": verdict["tolerance"]}):
            difference = "" if row.value is None else f"{decimal(row.value)} {interval(row.low, row.high, decimal)}, "
            arm = f"'{results.network(row.network).title}' under {in_sentence(methods_title(row.method))}"
            lines.append(Text(f"{arm}: {difference}{row.reading}", style="dim"))
        lines.append(Text())
    lines = [*lines[:-1], *[Text(caveat) for caveat in [results.content["caveat"]] if caveat]]
    return Panel(Group(*lines), title="verdicts", padding=(1, 2))
