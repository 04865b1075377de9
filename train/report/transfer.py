"""The transfer matrix of each network: masking methods x mask families, trained on and never seen."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from maskrobust.lm_modules.reliance.measures.transfer import worst_cell
from maskrobust.lm_modules.reliance.results import Row, only, select
from maskrobust.train.report.results import Network, Results
from maskrobust.train.report.tables import Cell, CellWriter
from maskrobust.train.report.wording import capitalised, family_title, in_sentence, method_title


class HeatCell(NamedTuple):
    """One cell of a matrix.

    Attributes:
        cell: accuracy in percent, without the sign.
        fraction: the accuracy in [0, 1] for the colour; empty where there is none.
        trained: whether the network was trained on this fill and family.
        worst: whether it is the network's worst cell.
    """

    cell: Cell
    fraction: str
    trained: bool
    worst: bool


class Matrix(NamedTuple):
    """One network's accuracies.

    Attributes:
        network: whose they are.
        families: titles of the columns.
        rows: title of a masking method, its cells, and accuracy behind its worst family.
        trained_on: the fills and families it was trained on, in words; empty where that is not known.
        worst: where its worst cell is, in words; empty where there is none.
        worst_accuracy: of that cell.
        has_worst_families: whether accuracy behind the worst family was asked.
    """

    network: Network
    families: list[str]
    rows: list[tuple[str, list[HeatCell], Cell]]
    trained_on: str
    worst: str
    worst_accuracy: Cell
    has_worst_families: bool


def transfer_matrices(results: Results, cells: CellWriter) -> list[Matrix]:
    """The matrices of all networks that have one."""
    matrices = []
    for network in results.networks:
        rows = select(results.over_seeds, network=network.name)
        if select(rows, measure="transfer_accuracy"):
            matrices.append(_matrix(network, rows, cells))
    return matrices


def _matrix(network: Network, rows: Sequence[Row], cells: CellWriter) -> Matrix:
    accuracies, worst = select(rows, measure="transfer_accuracy"), worst_cell(rows)
    families = list(dict.fromkeys(str(row.parameters["family"]) for row in accuracies))
    trained_on = network.arm.get("trained_on")

    def heat_cell(method: str, family: str) -> HeatCell:
        row = only(accuracies, method=method, parameters={"family": family})
        return HeatCell(
            cells.write(row, sign=False),
            "" if row is None or row.value is None else f"{row.value:.3f}",
            trained_on is not None and method in trained_on["fills"] and family in trained_on["families"],
            row is not None and row is worst,
        )

    lines = []
    for method in dict.fromkeys(row.method for row in accuracies):
        worst_family = only(rows, measure="worst_family", method=method)
        heat = [heat_cell(method, family) for family in families]
        lines.append((method_title(method), heat, cells.write(worst_family, sign=False)))
    return Matrix(
        network,
        [family_title(family) for family in families],
        lines,
        "" if trained_on is None else _trained_on(trained_on),
        f"{method_title(worst.method)}, {in_sentence(family_title(str(worst.parameters['family'])))}" if worst else "",
        cells.write(worst),
        bool(select(rows, measure="worst_family")),
    )


def _trained_on(found: Any) -> str:
    if not found["families"]:
        return "no holes"
    fills = capitalised(", ".join(in_sentence(method_title(fill)) for fill in found["fills"]))
    return f"{fills or 'No fill'}; {', '.join(in_sentence(family_title(family)) for family in found['families'])}"
