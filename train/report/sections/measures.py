"""Report sections with every number in tables, reliance on outlines, comparisons, and definitions."""

from markupsafe import Markup

from maskrobust.lm_modules.reliance.catalogue import OUTLINE_PULL, Measure, catalogue
from maskrobust.lm_modules.reliance.results import Row, only, select
from maskrobust.train.report.blocks import Cell, Line, LineGroup, facts, folded, named, prose, table
from maskrobust.train.report.results import Results
from maskrobust.train.report.tables import GROUP_TITLES, cell_of, group_table, inline, measure_tables, why_no_verdict
from maskrobust.train.report.wording import GOALS, in_sentence, method_title

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
    """Tables of all measures but accuracies, by group; below them those of each seed, folded."""
    whole = [row for row in results.over_seeds if row.method in results.methods]
    by_seed = [row for row in results.rows if row.seed is not None and row.method in results.methods]
    data = {row.measure: row for row in results.rows if not row.network}
    text = prose(
        "measures",
        claim=results.content if results.name == "claim" else None,
        probe=inline(data.get("probe_accuracy")),
        majority=inline(data.get("majority_fraction")),
        seeds=" and seeds" if len(results.content.get("seeds", ())) > 1 else "",
        has_pull=any(row.measure == OUTLINE_PULL and row.value is not None for row in whole),
    )
    apart = ("accuracy", "outline") if results.name == "reliance" else ("accuracy",)
    plain = [row for row in whole if catalogue()[row.measure].group not in apart]
    text += measure_tables("results", _first(results), plain, results, lambda row: _line(results, row))
    of_seeds = measure_tables("seeds", "Method and seed", by_seed, results, _part)
    return text + folded("Seed by seed", of_seeds) if by_seed else text


def _part(row: Row) -> tuple[str, str]:
    return f"{method_title(row.method)}, seed {row.seed}", ""


def _first(results: Results) -> str:
    return "Arm and method" if results.name == "claim" else "Network and method"


def _line(results: Results, row: Row) -> tuple[str, str]:
    is_doubtful = catalogue()[row.measure].group == "outline"
    look = "muted" if is_doubtful and why_no_verdict(results, row.network, row.method) else ""
    return method_title(row.method), look


def definitions(results: Results) -> Markup:
    """Titles and definitions of all measures of which there are rows, in the order of the catalogue."""
    shown = {row.measure for row in results.rows}
    entries = [entry for entry in catalogue().values() if entry.name in shown]

    def of(*groups: str) -> list[Measure]:
        return [entry for entry in entries if entry.group in groups]

    found = [
        (", ".join(dict.fromkeys(map(entry.heading, members))), f"{entry.definition} {GOALS[entry.goal]}")
        for entry in of(*GROUP_TITLES, "classes", "training")
        for members in [[row.parameters for row in select(results.rows, measure=entry.name)]]
    ]
    others = [entry for entry in of("curves", "transfer") if not entry.name.endswith("_score")]
    found += [(entry.title, entry.definition) for entry in others]
    intervals = " ".join([INTERVALS, *[SEEDS] * (len(results.content.get("seeds", ())) > 1)])
    return facts([*found, ("Intervals", intervals)], look="definitions")


def outlines(results: Results) -> Markup | None:
    """What outlines do under every masking method, of an evaluation; None where that was not measured."""
    whole = [row for row in results.over_seeds if row.method in results.methods]
    rows = [row for row in whole if catalogue()[row.measure].group == "outline"]
    if not rows:
        return None
    settings, probe = results.content["settings"], only(results.rows, network="", measure="probe_accuracy")
    shown = {row.measure for row in rows}
    text = prose(
        "outlines",
        unlabelled=not results.has_labels,
        source=settings["probe"],
        probe=inline(probe),
        has_pull=OUTLINE_PULL in shown,
        has_swaps="swap_pull" in shown,
    )
    return text + group_table("results", _first(results), rows, results, lambda row: _line(results, row))


def pairs(results: Results) -> Markup | None:
    """Every pair of networks under every masking method; None where none can be compared."""
    if all(row.value is None for row in results.comparisons):
        return None
    groups: dict[str, list[Line]] = {}
    for row in results.comparisons:
        pair = [results.network(row.network), results.network(row.compared_with)]
        reason = " and ".join(filter(None, (why_no_verdict(results, each.name, row.method) for each in pair)))
        named_in_verdict = f"{pair[0].title} " * (row.reading in ("relies more", "relies less"))
        under = f", tested under {in_sentence(method_title(row.method))}" * bool(named_in_verdict)
        verdict = f"no comparison: {reason}" if reason else f"{named_in_verdict}{row.reading}{under}"
        line = Line(Markup(" minus ").join(map(named, pair)), [cell_of(row), Cell(verdict, look="words")])
        groups.setdefault(method_title(row.method), []).append(line)
    headings = ["Method and pair", "Difference of |used share|", "Verdict"]
    shown = [LineGroup(lines, title) for title, lines in groups.items()]
    return prose("pairs") + table("pairs", "Pairs of networks", headings, shown, look="comparisons")
