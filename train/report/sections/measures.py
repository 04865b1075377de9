"""Every number of a claim or an evaluation in tables, the differences of networks, and what all of it means."""

from markupsafe import Markup

from maskrobust.lm_modules.reliance.catalogue import OUTLINE_PULL, Measure, catalogue
from maskrobust.lm_modules.reliance.results import Row, select
from maskrobust.train.report.blocks import block, facts, folded, named, prose
from maskrobust.train.report.results import Results
from maskrobust.train.report.sections.claim import marker
from maskrobust.train.report.tables import GROUP_TITLES, inline, measure_tables, why_no_verdict
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
SEEDS = (
    "Over several seeds each resample draws images and seeds. Five seeds or fewer make intervals too narrow where "
    "seeds differ more than images do: a 95\u202f% interval holds the truth in 50, 75, 82 and 86\u202f% of cases with "
    "2, 3, 4 and 5 seeds where the seed alone decides."
)


def measures(results: Results) -> Markup:
    """Tables of all measures, by group; below them inner layers and seeds, folded."""
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
    word = "Arm" if results.name == "claim" else "Network"
    plain = [row for row in whole if "layer" not in row.parameters]
    text += measure_tables("results", f"{word} and method", plain, results, lambda row: _line(results, row))
    for identity, summary, first, rows, word in (
        ("layers", "What inner layers carry", "Method and layer", layers, "{0.parameters[layer]}"),
        ("seeds", "Seed by seed", "Method and seed", by_seed, "seed {0.seed}"),
    ):
        if rows:

            def line_of(row: Row, word: str = word) -> tuple[str, str]:
                return f"{method_title(row.method)}, {word.format(row)}", ""

            text += folded(summary, measure_tables(identity, first, rows, results, line_of))
    return text


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
