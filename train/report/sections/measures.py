"""Every number of a claim or an evaluation in tables, how far outlines are read, comparisons, and definitions."""

from markupsafe import Markup

from maskrobust.lm_modules.reliance.catalogue import HEADLINE, OUTLINE_PULL, Measure, catalogue
from maskrobust.lm_modules.reliance.results import Row, only, select
from maskrobust.train.report.blocks import Cell, block, facts, folded, legend, named, panels, prose, table
from maskrobust.train.report.charts import charts_by_method
from maskrobust.train.report.results import Results
from maskrobust.train.report.sections.claim import marker
from maskrobust.train.report.tables import GROUP_TITLES, bar_groups, group_table, inline, measure_tables, why_no_verdict
from maskrobust.train.report.wording import GOALS, method_title

CURVES = (
    "A fraction of the image is hidden, segment by segment (square patches, or superpixels of SLIC and quickshift): in "
    "random order, or those that overlap most or least with the object first. The score is the mean over the curve."
)
TRANSFER = "The lowest accuracy leaves out the families that hide the whole object: nothing can be recognised there."
INTERVALS = (
    "Bootstrap intervals over images, those of one object together. Where a fraction is 0 or 100\u202f%, the exact "
    "interval (Clopper and Pearson) for so many objects."
)
SEEDS = "Over several seeds: Student's t over seeds and images, both random."


def accuracy(results: Results) -> Markup:
    """The table of all accuracies: networks and masking methods by what is hidden."""
    whole = [row for row in results.over_seeds if row.method in results.methods]
    rows = [row for row in whole if catalogue()[row.measure].group == "accuracy"]
    return group_table("results", _first(results), rows, results, lambda row: _line(results, row))


def measures(results: Results) -> Markup:
    """Tables of all measures but accuracies, by group; below them inner layers and seeds, folded."""
    whole = [row for row in results.over_seeds if row.method in results.methods]
    layers = [row for row in whole if "layer" in row.parameters]
    by_seed = [row for row in results.rows if row.seed is not None and row.method in results.methods]
    data = {row.measure: row for row in results.rows if not row.network}
    text = prose(
        "measures",
        claim=results.content if results.name == "claim" else None,
        probe=inline(data.get("probe_accuracy")),
        majority=inline(data.get("majority_fraction")),
        seeds=" and seeds" if len(results.content.get("seeds", ())) > 1 else "",
        has_pull=any(row.measure == OUTLINE_PULL and row.value is not None for row in whole),
        has_bits=any(row.measure.startswith("information_") for row in whole),
    )
    plain = [row for row in whole if "layer" not in row.parameters and catalogue()[row.measure].group != "accuracy"]
    text += measure_tables("results", _first(results), plain, results, lambda row: _line(results, row))
    for identity, summary, first, rows, word in (
        ("layers", "What inner layers carry", "Method and layer", layers, "{0.parameters[layer]}"),
        ("seeds", "Seed by seed", "Method and seed", by_seed, "seed {0.seed}"),
    ):
        if rows:

            def line_of(row: Row, word: str = word) -> tuple[str, str]:
                return f"{method_title(row.method)}, {word.format(row)}", ""

            text += folded(summary, measure_tables(identity, first, rows, results, line_of))
    return text


def _first(results: Results) -> str:
    return "Arm and method" if results.name == "claim" else "Network and method"


def _line(results: Results, row: Row) -> tuple[str | Markup, str]:
    title = method_title(row.method)
    if results.name == "reliance":
        is_doubtful = catalogue()[row.measure].group in ("outline", "leak", "information")
        return title, "muted" if is_doubtful and why_no_verdict(results, row.network, row.method) else ""
    compared = results.is_compared(results.network(row.network), row.method)
    mark = block("marker", marker(list(results.methods).index(row.method)))
    return mark + f" {title}", "compared" if compared else ""


def differences(results: Results) -> Markup | None:
    """Each further network minus the first; None where there is one alone."""
    if len(results.networks) == 1:
        return None
    rows = [row for row in results.rows if row.compared_with and row.measure != "reliance"]
    first = results.content["compared_with"]
    doubt = why_no_verdict(results, first, results.methods[0])
    text = prose("differences", first=named(results.network(first)), doubt=doubt)
    line_of = "Network and method", rows, results, lambda row: (method_title(row.method), "")
    return text + measure_tables("differences", *line_of)


def definitions(results: Results) -> Markup:
    """Titles and definitions of all measures of which there are rows, in the order of the catalogue."""
    shown = {row.measure for row in results.rows}
    entries = [entry for entry in catalogue().values() if entry.name in shown]

    def of(*groups: str) -> list[Measure]:
        return [entry for entry in entries if entry.group in groups]

    found = [
        (_titles(entry, results), f"{entry.definition} {GOALS[entry.goal]}")
        for entry in of(*GROUP_TITLES, "classes", "training")
    ]
    metrics = [entry.definition for entry in of("curves") if f"{entry.name}_score" in shown]
    if metrics:
        found.append(("Curves", " ".join([CURVES, *metrics])))
    matrix = [entry.definition for entry in of("transfer")]
    if matrix:
        found.append(("Transfer", " ".join([*matrix, TRANSFER])))
    intervals = " ".join([INTERVALS, *[SEEDS] * (len(results.content.get("seeds", ())) > 1)])
    return facts([*found, ("Intervals", intervals)], look="definitions")


def _titles(entry: Measure, results: Results) -> str:
    members = dict.fromkeys(entry.heading(row.parameters) for row in select(results.rows, measure=entry.name))
    return ", ".join(members)


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
