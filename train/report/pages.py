"""Pages that need nothing from anywhere else: a claim, and networks side by side. Each is a list of sections."""

from collections.abc import Sequence
from typing import Any

from maskrobust.lm_modules.reliance.catalogue import Measure, catalogue
from maskrobust.lm_modules.reliance.results import Row, select
from maskrobust.train.report.comparisons import headline, method_sentences, pair_table, shares_section, verdict_table
from maskrobust.train.report.curves import curves_section
from maskrobust.train.report.examples import ExampleStrip, example_groups
from maskrobust.train.report.factorial import factorial_section
from maskrobust.train.report.margins import margins_section
from maskrobust.train.report.results import Results
from maskrobust.train.report.retention_chart import marker_points, retention_section
from maskrobust.train.report.tables import GROUP_TITLES, CellWriter, Head, Table, measure_tables
from maskrobust.train.report.templates import compact_json, render_template
from maskrobust.train.report.transfer import transfer_matrices
from maskrobust.train.report.wording import CONCLUSIONS, GOALS, capitalised, method_title

Sections = list[tuple[str, Any]]
"""Templates, each with what it knows as `section`; one that has nothing to show is left out."""

CURVES = (
    "A fraction of the image is hidden, segment by segment (square patches, or superpixels of SLIC and quickshift): in "
    "random order, or those that overlap most or least with the object first. The score is the mean over the curve."
)
TRANSFER = (
    "The worst cell is the lowest of the matrix, but for those behind which the whole object is hidden: nothing is to "
    "be recognised there."
)
INTERVALS = (
    "Bootstrap intervals over images, those of one object together; over several seeds also over seeds, each resample "
    "drawing both. Fewer than five seeds make them too narrow where seeds differ more than images do: a 95\u202f% "
    "interval holds the truth in 50, 75, 82 and 86\u202f% of cases with 2, 3, 4 and 5 seeds where the seed alone "
    "decides."
)


def render_claim(results: Results, examples: Sequence[ExampleStrip]) -> str:
    """One self-contained page: verdict, rule, charts, tables, pictures, definitions, settings, and claim.json itself.

    Args:
        results: of a claim. Sections on curves and on transfer are left out where it has none.
        examples: what `example_strips` returns; may be empty.

    Returns:
        HTML that loads nothing: styles, drawings and pictures are inside, and its content security policy forbids
        scripts and every request. Equal arguments give equal text.

    Raises:
        ValueError: a claim holds a number that is not finite.
    """
    cells, outcome = CellWriter(), results.content["verdict"]["outcome"]
    verdict = {"outcome": capitalised(outcome), "conclusion": CONCLUSIONS[outcome]}
    sections = [
        ("verdict.html.j2", verdict),
        ("factorial.html.j2", factorial_section(results, cells)),
        ("retention_chart.html.j2", retention_section(results)),
        ("comparisons.html.j2", {"table": verdict_table(results, cells)}),
        ("rule.html.j2", results.content["rule"]),
        ("tables.html.j2", _tables_section(results, cells)),
        *_shared_sections(results, cells, examples),
    ]
    return _page(results, f"{verdict['outcome']}: {verdict['conclusion']}", sections, cells)


def render_reliance(results: Results, examples: Sequence[ExampleStrip]) -> str:
    """One self-contained page: which network relies least on outlines, every number, and reliance.json itself.

    Args:
        results: of an evaluation. Sections on pairs, differences, curves and transfer are left out where
            it has none.
        examples: what `example_strips` returns; may be empty.

    Returns:
        HTML as that of `render_claim`.

    Raises:
        ValueError: an evaluation holds a number that is not finite.
    """
    cells, title = CellWriter(), headline(results)
    sections = [
        ("headline.html.j2", {"headline": title, "sentences": method_sentences(results)}),
        ("shares.html.j2", shares_section(results, cells) | {"data": _data_cells(results, cells)}),
        ("comparisons.html.j2", {"table": pair_table(results, cells)} if _compared(results) else None),
        ("tables.html.j2", _tables_section(results, cells)),
        *_shared_sections(results, cells, examples),
    ]
    return _page(results, title, sections, cells)


def _compared(results: Results) -> bool:
    return any(row.value is not None for row in results.comparisons)


def _shared_sections(results: Results, cells: CellWriter, examples: Sequence[ExampleStrip]) -> Sections:
    return [
        ("differences.html.j2", _differences(results, cells)),
        ("margins.html.j2", margins_section(results)),
        ("curves.html.j2", curves_section(results, cells)),
        ("transfer.html.j2", transfer_matrices(results, cells)),
        ("examples.html.j2", example_groups(examples)),
        ("definitions.html.j2", _definitions(results)),
        ("run.html.j2", {"provenance": results.content["provenance"]}),
    ]


def _page(results: Results, title: str, sections: Sections, cells: CellWriter) -> str:
    return render_template(
        "results.html.j2",
        ("page.css",),
        title=title,
        sections=[(template, section) for template, section in sections if section],
        results=results,
        content=results.content,
        networks=results.networks,
        network_word="Arm" if results.name == "claim" else "Network",
        notes=cells.notes,
        json=compact_json(results.as_json()),
        csv=results.as_csv(),
    )


def _data_cells(results: Results, cells: CellWriter) -> dict[str, Any]:
    """What is said of the images alone, by measure."""
    return {row.measure: cells.write(row) for row in results.rows if not row.network}


def _tables_section(results: Results, cells: CellWriter) -> dict[str, Any]:
    whole = [row for row in results.over_seeds if row.method in results.methods]
    by_seed = [row for row in results.rows if row.seed is not None and row.method in results.methods]
    layers = [row for row in whole if "layer" in row.parameters]
    plain = [row for row in whole if "layer" not in row.parameters]

    def tables(identity: str, rows: list[Row], head_of: Any) -> list[Table]:
        return measure_tables(identity, rows, results, cells, head_of)

    return {
        "data": _data_cells(results, cells),
        "tables": tables("results", plain, lambda row: _head(results, row)),
        "seed_tables": tables("seeds", by_seed, lambda row: Head(f"{method_title(row.method)}, seed {row.seed}")),
        "layer_tables": tables(
            "layers", layers, lambda row: Head(f"{method_title(row.method)}, {row.parameters['layer']}")
        ),
    }


def _head(results: Results, row: Row) -> Head:
    if results.name == "reliance":
        return Head(method_title(row.method))
    marker = marker_points(list(results.methods).index(row.method))
    return Head(method_title(row.method), marker, results.is_compared(results.network(row.network), row.method))


def _differences(results: Results, cells: CellWriter) -> dict[str, Any] | None:
    """Each further network minus the first."""
    if results.name == "claim" or len(results.networks) == 1:
        return None
    rows = [row for row in results.rows if row.compared_with and row.measure != "reliance"]
    tables = measure_tables("differences", rows, results, cells, lambda row: Head(method_title(row.method)))
    return {"compared_with": results.network(results.content["compared_with"]), "tables": tables}


def _definitions(results: Results) -> list[tuple[str, str]]:
    """Titles and definitions of all measures of which there are rows, in the order of the catalogue."""
    shown = {row.measure for row in results.rows}
    entries = [entry for entry in catalogue().values() if entry.name in shown]
    found = [
        (_title(entry, results), f"{entry.definition} {GOALS[entry.goal]}")
        for entry in entries
        if entry.group in GROUP_TITLES
    ]
    found += [
        (entry.title, f"{entry.definition} {GOALS[entry.goal]}") for entry in entries if entry.group == "training"
    ]
    metrics = [entry for entry in entries if entry.group == "curves" and f"{entry.name}_score" in shown]
    if metrics:
        found.append(("Curves", " ".join([CURVES, *(entry.definition for entry in metrics)])))
    matrix = [entry for entry in entries if entry.group == "transfer"]
    if matrix:
        found.append(("Transfer", " ".join([*(entry.definition for entry in matrix), TRANSFER])))
    return [*found, ("Intervals", INTERVALS)]


def _title(entry: Measure, results: Results) -> str:
    members = dict.fromkeys(entry.heading(row.parameters) for row in select(results.rows, measure=entry.name))
    return ", ".join(members)
