"""Networks compared by their reliance, as the rows say; what is decided was decided beside the statistics."""

from markupsafe import Markup

from maskrobust.lm_modules.reliance.results import select
from maskrobust.train.report.blocks import Cell, html, prose, table
from maskrobust.train.report.results import Results
from maskrobust.train.report.tables import bar_groups
from maskrobust.train.report.wording import CASES, method_title, methods_title, points


def against_layer_masking(results: Results) -> Markup:
    """Every augmentation-only arm of a claim against the layer-masking arm, for each of its two claims."""
    if not results.comparisons:
        return html("<p>No arm trains with mask augmentation alone, so there is nothing to compare.</p>")
    text = prose("against_layer_masking", caveat=results.content["caveat"])
    lines = []
    for row in results.comparisons:
        further = [Cell(methods_title(row.method)), Cell(_lost(results, row.network)), Cell(row.reading, look="words")]
        lines.append((CASES[str(row.parameters["case"])][0], [results.network(row.network)], row, further))
    headings = ["Arm", "Difference", "Interval, zero and margin", "Method", "Clean accuracy lost", "Reading"]
    groups = bar_groups(lines, results.content["rule"]["margin"], muted="does not count")
    return text + table("comparisons", "Comparisons behind the verdicts", headings, groups, look="comparisons")


def pairs(results: Results) -> Markup | None:
    """Every pair of networks under every masking method; None where none can be compared."""
    if all(row.value is None for row in results.comparisons):
        return None
    text = prose("pairs")
    lines = []
    for row in results.comparisons:
        pair = [results.network(row.network), results.network(row.compared_with)]
        lines.append((method_title(row.method), pair, row, [Cell(row.reading, look="words")]))
    headings = ["Method and pair", "Difference", "Interval and zero", "The first of the pair"]
    return text + table("pairs", "Pairs of networks", headings, bar_groups(lines), look="comparisons")


def _lost(results: Results, arm: str) -> str:
    differences = [row for row in select(results.rows, network=arm, measure="clean_accuracy") if row.compared_with]
    return points(-differences[0].value) if differences and differences[0].value is not None else ""
