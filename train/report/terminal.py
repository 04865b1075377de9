"""Results in a terminal: a table that folds its intervals where the line is short, and the verdicts in a frame."""

from typing import Any

from rich import box
from rich.console import Group
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
    short,
)

_COLOURS = {"supported": "green", "refuted": "red", "undecided": "yellow"}


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
        table.add_column(Text(measure.heading(parameters)), justify="right", overflow="fold")
    for network in results.networks:
        table.add_row(Text(network.title, style="bold"))
        for method in results.methods:
            rows = select(results.over_seeds, network=network.name, method=method)
            style = "bold" if results.is_compared(network, method) else ""
            cells = [
                _cell(only(rows, measure=measure.name, parameters=parameters), style * (measure.name == HEADLINE))
                for measure, parameters in columns
            ]
            table.add_row(Padding(Text(in_sentence(method_title(method))), (0, 0, 0, 2)), *cells)
    return table


def _members(results: Results, measure: str) -> list[dict[str, Any]]:
    """Parameters of the measure's members that occur with a value, in order; those of the headline in any case."""
    rows = select(results.over_seeds, measure=measure)
    found = {row.name: dict(row.parameters) for row in rows if row.value is not None or measure == HEADLINE}
    return list(found.values())


def _cell(row: Row | None, style: str) -> Text:
    """As in ".26 [.22, .30]"; "undefined" where the value is, empty where there is no row."""
    if row is None or row.value is None:
        return Text("" if row is None else "undefined", "dim")
    found = Text(short(row.value), style)
    return found.append(f" {interval(row.low, row.high, short)}".rstrip(), "not bold dim")


def verdict_panel(results: Results) -> Panel:
    """Both claims and what has come of them, the reasons, which fills were tried, and what each pair has shown."""
    lines = []
    for verdict in results.verdicts:
        case, outcome = verdict["case"], verdict["outcome"]
        lines.append(Text(f"Claim: {results.content['claims'][case]}", style="dim"))
        lines.append(Text(f"{capitalised(outcome)}. {CONCLUSIONS[case][outcome]}", style=f"bold {_COLOURS[outcome]}"))
        lines.append(Text(verdict["reason"]))
        lines.append(Text())
    lines.append(Text(results.content["fills"]))
    for row in results.comparisons:
        difference = "" if row.value is None else f"{decimal(row.value)} {interval(row.low, row.high, decimal)}, "
        arm = f"'{results.network(row.network).title}' under {in_sentence(method_title(row.method))}"
        lines.append(Text(f"{arm}: {difference}{row.reading}", style="dim"))
    return Panel(Group(*lines), title="verdicts", padding=(1, 2))
