"""Reliance on outlines: the used share by network and masking method, the leak by margin, and comparisons."""

from markupsafe import Markup

from maskrobust.lm_modules.reliance.catalogue import HEADLINE, OUTLINE_PULL, catalogue
from maskrobust.lm_modules.reliance.results import only, select
from maskrobust.train.report.blocks import Cell, html, legend, panels, prose, table
from maskrobust.train.report.charts import charts_by_method
from maskrobust.train.report.results import Results
from maskrobust.train.report.tables import bar_groups, inline, why_no_verdict
from maskrobust.train.report.wording import CASES, method_title, methods_title, points


def shares(results: Results) -> Markup | None:
    """Intervals by masking method, of the outline pull where that alone is defined; None where neither was measured."""
    pulls, used = (
        any(row.value is not None for row in select(results.over_seeds, measure=measure))
        for measure in (OUTLINE_PULL, HEADLINE)
    )
    measure = OUTLINE_PULL if pulls and not used else HEADLINE
    rows = [row for method in results.methods for row in select(results.over_seeds, measure=measure, method=method)]
    if not rows:
        return None
    settings = results.content["settings"]
    text = prose(
        "shares",
        unlabelled=settings["labels"] != "of the data",
        source=settings["probe"],
        probe=inline(only(results.rows, network="", measure="probe_accuracy")),
        is_used_share=measure == HEADLINE,
        is_undefined=bool(select(results.over_seeds, measure=HEADLINE)),
    )
    lines = []
    for row in rows:
        verdict = why_no_verdict(results, row.network, row.method) or row.reading
        network = [results.network(row.network)]
        lines.append((method_title(row.method), network, row, [Cell(verdict, look="words")]))
    question = "Relies on outlines?" if measure == HEADLINE else "Pulled by outlines?"
    headings = ["Method and network", catalogue()[measure].title, "Interval and zero", question]
    return text + table("shares", "Shares", headings, bar_groups(lines), look="comparisons")


def margins(results: Results) -> Markup | None:
    """A chart for each masking method; None where the leak was measured with fewer than two margins."""
    rows = [row for row in select(results.over_seeds, measure="margin_leak") if row.value is not None]
    if len({row.parameters["margin"] for row in rows}) < 2:
        return None
    ends = [end for row in rows for end in (row.low, row.value, row.high) if end is not None]
    spare = 0.05 * (max(ends) - min(ends)) or 0.01
    limits = min(*ends, 0.0) - spare, max(*ends, 0.0) + spare
    x_label, label = "Margin around the object (pixels)", "Chart: leak against the margin around the object"
    look = {"percent": False, "limits": limits}
    charts = charts_by_method(results, rows, "margin", "margins", x_label, "Leak", label=label, **look)
    caption = prose("margins", legend=legend(results.networks))
    return panels(charts, caption)


def against_layer_masking(results: Results) -> Markup:
    """Every augmentation-only arm of a claim against the layer-masking arm, for each of its two claims."""
    if not results.comparisons:
        return html("<p>No arm trains with mask augmentation alone, so there is nothing to compare.</p>")
    text = prose("against_layer_masking", caveat=results.content["caveat"])
    lines = []
    for row in results.comparisons:
        further = [Cell(methods_title(row.method)), Cell(_lost(results, row.network)), Cell(row.reading, look="words")]
        lines.append((CASES[str(row.parameters["case"])][0], [results.network(row.network)], row, further))
    headings = ["Arm", "Difference", "Interval, zero and margin", "Method", "Clean accuracy lost", "Result"]
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
        reasons = [why_no_verdict(results, each.name, row.method) for each in pair]
        reason = " and ".join(filter(None, reasons))
        verdict = f"no comparison: {reason}" if reason else row.reading
        if verdict in ("relies more", "relies less"):
            verdict = f"{pair[0].title} {verdict}"
        lines.append((method_title(row.method), pair, row, [Cell(verdict, look="words")]))
    headings = ["Method and pair", "Difference of |used share|", "Interval and zero", "Verdict"]
    return text + table("pairs", "Pairs of networks", headings, bar_groups(lines), look="comparisons")


def _lost(results: Results, arm: str) -> str:
    differences = [row for row in select(results.rows, network=arm, measure="clean_accuracy") if row.compared_with]
    return points(-differences[0].value) if differences and differences[0].value is not None else ""
