"""The transfer matrix of each network: masking methods x mask families, trained on and never seen."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from maskrobust.train.report.cells import Cell, CellWriter
from maskrobust.train.report.networks import Network
from maskrobust.train.report.wording import capitalised, family_title, hundredths, method_title, percent

TRANSFER_DEFINITION = (
    "Accuracy under every masking method and mask family, of those that a network was trained on and of those that it "
    "has never seen. The worst cell is the lowest of them, but for those "
    "behind which the whole object is hidden: nothing is to be recognised there."
)


class HeatCell(NamedTuple):
    """One cell of a matrix.

    Attributes:
        cell: accuracy in percent, without the sign.
        share: the accuracy in [0, 1] for the colour; empty where there is none.
        trained: whether the network was trained on this fill and family.
        worst: whether it is the network's worst cell.
    """

    cell: Cell
    share: str
    trained: bool
    worst: bool


class Matrix(NamedTuple):
    """One network's accuracies.

    Attributes:
        network: whose they are.
        families: titles of the columns.
        rows: title of a masking method, its cells, and accuracy behind its worst family.
        trained_on: the fills and families it was trained on, in words; empty where that is not known.
        worst: where its worst cell is, in words; empty where that is not known.
        worst_accuracy: of that cell.
    """

    network: Network
    families: list[str]
    rows: list[tuple[str, list[HeatCell], Cell]]
    trained_on: str
    worst: str
    worst_accuracy: Cell

    @property
    def has_worst_families(self) -> bool:
        """Whether the accuracy behind the worst family is known for some masking method."""
        return any(worst.value for _, _, worst in self.rows)


def transfer_matrices(networks: Sequence[Network], cells: CellWriter) -> list[Matrix]:
    """The matrices of all networks that have one."""
    return [_matrix(network, found, cells) for network in networks if (found := accuracies_of(network))]


def accuracies_of(network: Network) -> dict[str, Mapping[str, Any]]:
    """Accuracies by masking method and mask family; empty where no transfer was asked."""
    main = {method: figures["transfer"] for method, figures in network.methods.items() if "transfer" in figures}
    return {**main, **network.entry.get("transfer", {})}


def _matrix(network: Network, accuracies: Mapping[str, Mapping[str, Any]], cells: CellWriter) -> Matrix:
    families = list(dict.fromkeys(family for by_family in accuracies.values() for family in by_family))
    rows = []
    for method, by_family in accuracies.items():
        heat = [_heat_cell(network, method, family, by_family.get(family), cells) for family in families]
        worst_family = network.methods.get(method, {}).get("worst_family")
        rows.append((method_title(method), heat, cells.write(worst_family, hundredths)))
    worst = network.entry.get("worst_cell")
    return Matrix(
        network,
        [family_title(family) for family in families],
        rows,
        _trained_on(network),
        f"{method_title(worst['method'])}, {_in_sentence(family_title(worst['family']))}" if worst else "",
        cells.write(worst, percent),
    )


def _heat_cell(network: Network, method: str, family: str, figure: Any, cells: CellWriter) -> HeatCell:
    trained_on, worst = network.entry.get("trained_on", {}), network.entry.get("worst_cell") or {}
    return HeatCell(
        cells.write(figure, hundredths),
        "" if figure is None or figure["value"] is None else f"{figure['value']:.3f}",
        method in trained_on.get("fills", ()) and family in trained_on.get("families", ()),
        (worst.get("method"), worst.get("family")) == (method, family),
    )


def _trained_on(network: Network) -> str:
    found = network.entry.get("trained_on")
    if found is None:
        return ""
    if not found["families"]:
        return "no holes"
    fills = capitalised(", ".join(_in_sentence(method_title(fill)) for fill in found["fills"]))
    return f"{fills or 'No fill'}; {', '.join(_in_sentence(family_title(family)) for family in found['families'])}"


def _in_sentence(title: str) -> str:
    return title if title.isupper() else title[:1].lower() + title[1:]
