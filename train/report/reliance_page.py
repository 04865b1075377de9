"""Checkpoints side by side as one HTML page that needs nothing from anywhere else."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from maskrobust.train.report import wording
from maskrobust.train.report.bars import Bar, bar, scale_of
from maskrobust.train.report.cells import Cell, CellWriter
from maskrobust.train.report.columns import LAYER_FIGURES, column_groups
from maskrobust.train.report.curve_chart import CurveLine
from maskrobust.train.report.curves import Curves, curves_of
from maskrobust.train.report.examples import ExampleStrip
from maskrobust.train.report.figure_tables import (
    Block,
    FigureRow,
    FigureTable,
    figure_tables,
    layer_tables,
    present_figures,
)
from maskrobust.train.report.headline import findings_of, headline
from maskrobust.train.report.networks import Network, networks_of_reliance
from maskrobust.train.report.shared_content import example_groups, shared_content
from maskrobust.train.report.spreadsheet import reliance_csv
from maskrobust.train.report.templates import render_template
from maskrobust.train.report.transfer import transfer_matrices


class ShareRow(NamedTuple):
    """The used share of one checkpoint under one masking method.

    Attributes:
        network: the checkpoint.
        cell: its used share.
        bar: the interval drawn; None where there is none.
    """

    network: Network
    cell: Cell
    bar: Bar | None


def render_reliance(reliance: Mapping[str, Any], examples: Sequence[ExampleStrip]) -> str:
    """One self-contained page: which checkpoint relies least on outlines, every figure, and reliance.json itself.

    Args:
        reliance: the content of reliance.json. Sections on differences, curves and transfer are left out where it has
            none.
        examples: what `example_strips` returns; may be empty.

    Returns:
        HTML that loads nothing: styles, drawings and pictures are inside, and its content security policy forbids
        scripts and every request. Equal arguments give equal text.

    Raises:
        ValueError: reliance.json holds a number that is not finite.
    """
    return render_template("reliance.html.j2", ("page.css",), **_content(reliance, examples))


def _content(reliance: Mapping[str, Any], examples: Sequence[ExampleStrip]) -> dict[str, Any]:
    cells, networks = CellWriter(), networks_of_reliance(reliance)
    findings = findings_of(networks, reliance)
    shares = _share_rows(networks, cells)
    probe = cells.write(reliance["probe_accuracy"], wording.percent)
    tables = _tables(networks, "results", {network.name: network.methods for network in networks}, cells)
    differences = _tables(networks, "differences", reliance["differences"], cells)
    return {
        "headline": headline(networks, findings),
        "findings": findings,
        "shares": shares,
        "compared_with": next(network for network in networks if network.name == reliance["compared_with"]),
        "probe": probe,
        "tables": tables,
        "difference_tables": differences,
        "layer_tables": layer_tables(networks, column_groups(LAYER_FIGURES), cells),
        "curves": _curves(networks, cells),
        "matrices": transfer_matrices(networks, cells),
        "examples": example_groups(examples),
        "settings": reliance["settings"],
        **shared_content(reliance, "reliance", reliance_csv(reliance), networks, tables, cells),
    }


def _share_rows(networks: Sequence[Network], cells: CellWriter) -> list[tuple[str, list[ShareRow]]]:
    """Used shares by title of the masking method, all on one scale."""
    found = {
        method: [(network, network.methods[method]["used_share"]) for network in networks]
        for method in networks[0].methods
    }
    scale = scale_of(figure for rows in found.values() for _, figure in rows)
    return [
        (
            wording.method_title(method),
            [ShareRow(network, cells.write(figure, wording.decimal), bar(figure, scale)) for network, figure in rows],
        )
        for method, rows in found.items()
    ]


def _tables(
    networks: Sequence[Network], identity: str, figures: Mapping[str, Mapping[str, Any]], cells: CellWriter
) -> list[FigureTable]:
    """Tables of the checkpoints that `figures` (by checkpoint and masking method) knows."""
    blocks = [
        Block(
            network,
            "",
            tuple(
                FigureRow(wording.method_title(method), "", False, found)
                for method, found in figures[network.name].items()
            ),
        )
        for network in networks
        if network.name in figures
    ]
    groups = column_groups(present_figures(blocks))
    return figure_tables(identity, blocks, groups, cells, differences=identity == "differences")


def _curves(networks: Sequence[Network], cells: CellWriter) -> list[Curves]:
    """The curves under each masking method that any checkpoint has some of."""
    drawn = []
    for method in networks[0].methods:
        lines = [
            CurveLine(network, True, network.methods[method]["curves"])
            for network in networks
            if "curves" in network.methods[method]
        ]
        if lines:
            drawn.append(curves_of(lines, cells, f"curves-{method}", wording.method_title(method)))
    return drawn
