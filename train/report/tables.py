"""HTML tables of rows of the result table."""

from collections.abc import Callable, Hashable, Mapping, Sequence

from markupsafe import Markup

from maskrobust.lm_modules.reliance.catalogue import HEADLINE, Group, catalogue
from maskrobust.lm_modules.reliance.results import Row, select
from maskrobust.train.report.blocks import Cell, Line, LineGroup, block, html, named, table
from maskrobust.train.report.results import Network, Results, meaningless_because
from maskrobust.train.report.wording import PERCENT, count, interval, percent, writer

GROUP_TITLES: Mapping[Group, str] = {
    "outline": "What is read from the outline",
    "accuracy": "Accuracy",
    "remains": "Checks",
    "own": "Own measures",
}
"""Titles of the groups that have a table; curves and transfer have sections of their own."""

LineOf = Callable[[Row], tuple[str, str]]
"""The line that a row stands in: its title, and its CSS classes."""


def cell_of(row: Row | None, *, sign: bool = True) -> Cell:
    """A number in the unit of its measure, a footnote where it means nothing; empty where there is no row.

    `sign`: with a percent sign.
    """
    if row is None or row.value is None:
        return Cell() if row is None else Cell("undefined", reason=row.undefined_because or "")
    write = writer(catalogue()[row.measure].unit, difference=bool(row.compared_with))
    value = write(row.value)
    reason = (
        f"Means nothing: {meaningless_because(row)}." if row.measure == HEADLINE and meaningless_because(row) else ""
    )
    return Cell(value if sign else value.removesuffix(PERCENT), interval(row.low, row.high, write), reason)


def why_no_verdict(results: Results, network: str, method: str) -> str:
    """Why nothing is said of a network's reliance, as in "w2 is at chance (12.5 %)"; empty where something is said."""
    title = results.network(network).title
    for row in _clean_accuracy(results, network):
        if meaningless_because(row):
            return f"{title} is at chance ({percent(row.value or 0.0)})"
    reasons = map(meaningless_because, select(results.over_seeds, measure=HEADLINE, network=network, method=method))
    return "".join(f"the used share of {title} means nothing ({reason})" for reason in reasons if reason)


def inline(row: Row | None) -> Markup:
    """A number with its interval within a sentence."""
    return block("cell", cell_of(row), "", "")


def measure_tables(identity: str, first: str, rows: Sequence[Row], results: Results, line_of: LineOf) -> Markup:
    """One table for each group of measures that any row is of: networks, and under each its lines.

    Args:
        identity: prefix of the tables' ids.
        first: heading of the lines.
        rows: the table's rows, one for each network, line and column.
        results: whose rows they are.
        line_of: the line that a row stands in.
    """
    tables = []
    for group, title in GROUP_TITLES.items():
        own = [row for row in rows if catalogue()[row.measure].group == group]
        if own:
            shown = group_table(identity, first, own, results, line_of)
            tables += [html("<h3>{{ title }}</h3>", title=title), shown]
    return Markup().join(tables)


def group_table(identity: str, first: str, rows: Sequence[Row], results: Results, line_of: LineOf) -> Markup:
    """The table of one group of measures, and how many images each column rests on; see `measure_tables`."""
    order, group = list(catalogue()), catalogue()[rows[0].measure].group
    columns: dict[Hashable, list[Row]] = {}
    for row in sorted(rows, key=lambda row: order.index(row.measure)):
        columns.setdefault((row.measure, *row.parameters.items()), []).append(row)
    headings = [catalogue()[found[0].measure].heading(found[0].parameters) for found in columns.values()]
    placed = {(row.network, line_of(row), column): row for column, found in columns.items() for row in found}
    groups = []
    for network in results.networks:
        heads = dict.fromkeys(head for name, head, _ in placed if name == network.name)
        lines = [
            Line(title, [cell_of(placed.get((network.name, (title, look), column))) for column in columns], look)
            for title, look in heads
        ]
        if lines:
            groups.append(LineGroup(lines, titled(results, network)))
    foot = Line("Images", [_counts(found) for found in columns.values()])
    return table(f"{identity}-{group}", GROUP_TITLES[group], [first, *headings], groups, foot=foot)


def titled(results: Results, network: Network) -> Markup:
    """A network's name, with a tag where its arm trains with mask augmentation alone, or where it is at chance."""
    tags = ["augmentation only"] * bool(network.arm.get("augmentation_only"))
    tags += ["at chance"] * any(map(meaningless_because, _clean_accuracy(results, network.name)))
    tag = '{% for tag in tags %}<span class="tag">{{ tag }}</span>{% endfor %}'
    return html("{{ network }} " + tag, network=named(network), tags=tags)


def _clean_accuracy(results: Results, network: str) -> list[Row]:
    return select(results.over_seeds, measure="clean_accuracy", network=network)


def _counts(rows: Sequence[Row]) -> Cell:
    """How many images the numbers of a column rest on."""
    images, left_out = ([getattr(row, name) for row in rows] for name in ("images", "left_out"))
    every = [sum(each) for each in zip(images, left_out, strict=True)]
    return Cell(count(min(images), max(images)), f"of {count(min(every), max(every))}" if any(left_out) else "")
