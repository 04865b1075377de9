"""Tables of results in a terminal, at most 80 columns wide."""

from collections.abc import Callable, Sequence

from rich.console import Group
from rich.panel import Panel
from rich.text import Text

from maskrobust.lm_modules.reliance.catalogue import HEADLINE, catalogue
from maskrobust.train.report.findings import View, row_of
from maskrobust.train.report.results import Results
from maskrobust.train.report.sections.claim import in_claim
from maskrobust.train.report.wording import (
    capitalised,
    decimal,
    in_sentence,
    interval,
    method_title,
)

_COLOURS = {"supported": "green", "refuted": "red", "undecided": "yellow"}


def results_table(results: Results) -> Group:
    """Networks, and under each its masking methods, with the values of the measures that have a column in the terminal.

    A measure of several members has the column of the one nearest to half hidden. One that is undefined everywhere is
    left out, unless it is the headline. Intervals are on the page. No line is wider than 80 columns but for names of
    more than 30; a terminal that is narrower cuts lines off.
    """
    views = [View(network, method) for network in results.networks for method in results.methods]
    titles = ["", "", *(f"  {in_sentence(method_title(view.method))}" for view in views)]
    columns = [_padded(titles, str.ljust)]
    for measure in catalogue().values():
        rows = [row_of(results, view, measure.name) for view in views]
        known = [row for row in rows if row]
        if measure.in_terminal and (known or measure.name == HEADLINE):
            heading = measure.heading(known[0].parameters if known else {}).split(" ", 1)
            cells = [decimal(row.value or 0.0) if row else "undefined" for row in rows]
            columns.append(_padded([*["", *heading][-2:], *cells], str.rjust))
    lines = ["   ".join(cells) for cells in zip(*columns, strict=True)]
    whole = [*lines[:2]]
    for place, line in enumerate(lines[2:]):
        whole += [views[place].network.title] * (place % len(results.methods) == 0)
        whole.append(line)
    return Group(*(Text(line, no_wrap=True, overflow="ellipsis") for line in whole))


def _padded(cells: Sequence[str], pad: Callable[[str, int], str]) -> list[str]:
    return [pad(each, max(map(len, cells))) for each in cells]


def verdict_panel(results: Results) -> Panel:
    """The verdicts on both claims, with their reasons, the fills that were tried, and what each pair has shown."""
    lines = []
    for verdict, sentence in zip(results.verdicts, in_claim(results), strict=True):
        case, outcome = verdict["case"], verdict["outcome"]
        lines.append(Text(f"Claim: {results.content['claims'][case]}", style="dim"))
        lines.append(Text(f"{capitalised(outcome)}. {sentence}", style=f"bold {_COLOURS[outcome]}"))
        if verdict["reason"] not in map(str, lines):
            lines.append(Text(verdict["reason"]))
        lines.append(Text())
    lines.append(Text(results.content["fills"]))
    for row in results.comparisons:
        difference = "" if row.value is None else f"{decimal(row.value)} {interval(row.low, row.high, decimal)}, "
        arm = f"'{results.network(row.network).title}' under {in_sentence(method_title(row.method))}"
        lines.append(Text(f"{arm}: {difference}{row.reading}", style="dim"))
    return Panel(Group(*lines), title="verdicts", padding=(1, 2))
