"""Tables of results in a terminal, at most 80 columns wide."""

from collections.abc import Mapping, Sequence

from rich.console import Group
from rich.panel import Panel
from rich.text import Text

from maskrobust.lm_modules.reliance.results import only
from maskrobust.train.report.own_holes_said import own_holes_lines
from maskrobust.train.report.pixels import pixels_table
from maskrobust.train.report.results import Results
from maskrobust.train.report.sections.claim import in_claim
from maskrobust.train.report.sections.grid import GridLine, grid_lines
from maskrobust.train.report.wording import PERCENT, capitalised, cut, hundredths, in_sentence, interval, method_title

_COLOURS = {"supported": "green", "refuted": "red", "undecided": "yellow"}
_NAME = 18
"""Width of the column of names."""


def results_table(results: Results) -> Group:
    """What exchanged holes cost, and the grid of the page: accuracies under each way of hiding, and who reads outlines.

    Where images have holes of their own, and nothing was asked behind outlines, the grid is left to the page. No line
    is wider than 80 columns; longer names are cut off. Other measures, and why one is undefined, are on the page.
    """
    if of_pixels := pixels_table(results):
        return Group(*map(Text, of_pixels))
    own, (grid, decides) = own_holes_lines(results), grid_lines(results)
    lines = own if own and not decides else [*own, *[""] * bool(own), *_grid(grid, decides)]
    return Group(*(Text(line, no_wrap=True, overflow="ellipsis") for line in lines))


def _grid(grid: Mapping[str, Sequence[GridLine]], decides: bool) -> list[str]:
    half = next((line.half for lines in grid.values() for line in lines if line.half), None)
    hidden = f"{float(half.parameters['hidden_fraction']):.0%}".replace("%", PERCENT) if half else ""
    asked = ("reads outlines?", "shape choices") if decides else ("", "")
    lines = [
        f"{'':{_NAME}}{'object hidden':>15}{'patches hidden':>15}{'':2}{asked[0]}",
        f"{'right in ' + PERCENT.strip():{_NAME}}{'outline':>8}{'circle':>7}{hidden:>8}{'none':>7}{'':2}{asked[1]}",
    ]
    for method, of_method in grid.items():
        lines.append(in_sentence(method_title(method)))
        for line in of_method:
            name = cut(f"  {line.network.title}", _NAME)
            columns = ((line.outline, 8), (line.circle, 7), (line.half, 8), (line.clean, 7))
            right = "".join(f"{'' if row is None else f'{100 * (row.value or 0.0):.0f}':>{n}}" for row, n in columns)
            word = f"{line.word} {line.choices}" if decides else ""
            lines.append(f"{name:{_NAME}}{right}  {word}".rstrip())
    return lines


def verdict_panel(results: Results) -> Panel:
    """The verdicts on both claims, with their reasons, the fills that were tried, and what each pair has shown."""
    lines, baseline = [], results.content["rule"]["baseline"]
    for verdict, sentence in zip(results.content["verdicts"], in_claim(results), strict=True):
        case, outcome = verdict["case"], verdict["outcome"]
        lines.append(Text(f"Claim: {results.content['claims'][case]}", style="dim"))
        lines.append(Text(f"{capitalised(outcome)}. {sentence}", style=f"bold {_COLOURS[outcome]}"))
        if verdict["reason"] not in map(str, lines):
            lines.append(Text(verdict["reason"]))
        lines.append(Text())
    lines.append(Text(results.content["fills"]))
    for row in results.comparisons:
        difference = "" if row.value is None else f"{hundredths(row.value)} {interval(row.low, row.high, hundredths)}, "
        bare = only(results.rows, network=row.network, method=row.method, measure="reliance", compared_with=baseline)
        if bare is not None and bare.value is not None:
            difference += f"minus no masks {hundredths(bare.value)} {interval(bare.low, bare.high, hundredths)}, "
        arm = f"'{results.network(row.network).title}' under {in_sentence(method_title(row.method))}"
        lines.append(Text(f"{arm}: {difference}{row.reading}", style="dim"))
    return Panel(Group(*lines), title="verdicts", padding=(1, 2))
