"""The transfer matrix of each network: masking methods x mask families, trained on and never seen."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from maskrobust.lm_modules.reliance.measures.transfer import worst_cell
from maskrobust.lm_modules.reliance.results import Row, only, select
from maskrobust.train.report.blocks import Cell, Line, LineGroup, folded, named, prose, table
from maskrobust.train.report.results import Results
from maskrobust.train.report.tables import cell_of
from maskrobust.train.report.wording import capitalised, family_title, in_sentence, method_title

TRAINED = Markup('<span class="mark trained" role="img" aria-label="trained on">●</span> ')
WORST = Markup('<span class="mark worst" role="img" aria-label="worst cell">▼</span> ')


def transfer(results: Results) -> Markup | None:
    """The worst cell of every network, and the matrices; None where there is none."""
    every = [(each, select(results.over_seeds, network=each.name)) for each in results.networks]
    found = [(each, rows, worst_cell(rows)) for each, rows in every if select(rows, measure="transfer_accuracy")]
    if not found:
        return None
    text = prose("transfer", trained=TRAINED, worst=WORST)
    lines = [
        Line(
            named(each), [cell_of(worst), Cell(_where(worst), look="words"), Cell(_trained_on(each.arm), look="words")]
        )
        for each, _, worst in found
    ]
    word = "Arm" if results.name == "claim" else "Network"
    text += table(
        "worst-cells", "Worst cells", [word, "Worst accuracy", "Where", "Trained on"], [LineGroup(lines)], look="plain"
    )
    for place, (each, rows, _) in enumerate(found):
        matrix = _matrix(f"transfer-{each.number}", each.title, rows, each.arm.get("trained_on"))
        text += folded(named(each), matrix, is_open=place < 2)
    return text


def _matrix(identity: str, title: str, rows: Sequence[Row], trained_on: Mapping[str, Any] | None) -> Markup:
    accuracies, worst_families, worst = (
        select(rows, measure="transfer_accuracy"), select(rows, measure="worst_family"), worst_cell(rows)
    )  # fmt: skip
    families = list(dict.fromkeys(str(row.parameters["family"]) for row in accuracies))

    def heat(method: str, family: str) -> Cell:
        row = only(accuracies, method=method, parameters={"family": family})
        cell = cell_of(row, sign=False)
        if row is None or row.value is None:
            return cell
        is_trained = trained_on is not None and method in trained_on["fills"] and family in trained_on["families"]
        marks = TRAINED * is_trained + WORST * (row is worst)
        look = "heat-cell" + " trained" * is_trained + " worst" * (row is worst)
        return cell._replace(value=marks + cell.value, look=look, shade=row.value)

    lines = []
    for method in dict.fromkeys(row.method for row in accuracies):
        cells = [heat(method, family) for family in families]
        cells += [cell_of(only(worst_families, method=method), sign=False)] * bool(worst_families)
        lines.append(Line(method_title(method), cells))
    headings = ["Accuracy in percent", *map(family_title, families), *["Worst family"] * bool(worst_families)]
    return table(identity, title, headings, [LineGroup(lines)], look="heat")


def _where(worst: Row | None) -> str:
    if worst is None:
        return ""
    return f"{method_title(worst.method)}, {in_sentence(family_title(str(worst.parameters['family'])))}"


def _trained_on(arm: Mapping[str, Any]) -> str:
    """The fills and families that an arm was trained on; empty where that is not known."""
    found = arm.get("trained_on")
    if found is None:
        return ""
    if not found["families"]:
        return "no holes"
    fills = capitalised(", ".join(in_sentence(method_title(fill)) for fill in found["fills"]))
    return f"{fills or 'No fill'}; {', '.join(in_sentence(family_title(family)) for family in found['families'])}"
