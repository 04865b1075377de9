"""Tables of figures: networks, and under each its masking methods, one table for each group of figures."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from maskrobust.train.report import wording
from maskrobust.train.report.cells import Cell, CellWriter
from maskrobust.train.report.columns import Column, ColumnGroup
from maskrobust.train.report.networks import Network


class FigureRow(NamedTuple):
    """The figures of one network under one masking method.

    Attributes:
        title: what the row is called.
        marker: `points` of the masking method's marker in the chart; empty for none.
        marked: whether the row is tinted.
        figures: by name.
    """

    title: str
    marker: str
    marked: bool
    figures: Mapping[str, Any]


class Block(NamedTuple):
    """The rows of one network.

    Attributes:
        network: whose they are.
        tag: a word or two behind its title; empty for none.
        rows: in order.
    """

    network: Network
    tag: str
    rows: tuple[FigureRow, ...]


class FigureTable(NamedTuple):
    """One group's table.

    Attributes:
        identity: of the element.
        title: of the group.
        columns: headings.
        blocks: each block with the cells of its rows.
        counts: for each column how many images its figures rest on, and how many were left out; empty where unknown.
    """

    identity: str
    title: str
    columns: tuple[Column, ...]
    blocks: list[tuple[Block, list[tuple[FigureRow, list[Cell]]]]]
    counts: list[tuple[str, str]]


def figure_tables(
    identity: str,
    blocks: Sequence[Block],
    groups: Sequence[ColumnGroup],
    cells: CellWriter,
    *,
    differences: bool = False,
) -> list[FigureTable]:
    """One table for each group that any block has a figure of.

    Args:
        identity: prefix of the tables' ids.
        blocks: rows of figures.
        groups: columns by table.
        cells: writes the cells.
        differences: whether the figures are differences of two networks.
    """
    present = present_figures(blocks)
    tables = []
    for group in groups:
        columns = tuple(column for column in group.columns if column.key in present)
        if columns:
            bodies = [
                (block, [(row, _row_cells(row, columns, cells, differences)) for row in block.rows]) for block in blocks
            ]
            counts = [_image_count(blocks, column.key) for column in columns]
            tables.append(FigureTable(f"{identity}-{group.identity}", group.title, columns, bodies, counts))
    return tables


def layer_tables(networks: Sequence[Network], groups: Sequence[ColumnGroup], cells: CellWriter) -> list[FigureTable]:
    """What inner layers carry, of the networks whose layers were probed; none where none were."""
    blocks = [Block(network, "", rows) for network in networks if (rows := _layer_rows(network))]
    return figure_tables("layers", blocks, groups, cells)


def _layer_rows(network: Network) -> tuple[FigureRow, ...]:
    return tuple(
        FigureRow(f"{wording.method_title(method)}, {layer}", "", False, found)
        for method, figures in network.methods.items()
        for layer, found in figures.get("layers", {}).items()
    )


def present_figures(blocks: Sequence[Block]) -> list[str]:
    """Names of all figures that any row has, in order of appearance."""
    return list(dict.fromkeys(name for block in blocks for row in block.rows for name in row.figures))


def _row_cells(row: FigureRow, columns: Sequence[Column], cells: CellWriter, differences: bool) -> list[Cell]:
    return [
        cells.write(row.figures.get(column.key), column.write_difference if differences else column.write)
        for column in columns
    ]


def _image_count(blocks: Sequence[Block], key: str) -> tuple[str, str]:
    found = [row.figures[key] for block in blocks for row in block.rows if key in row.figures]
    counted = [figure for figure in found if "images" in figure]
    if not counted:
        return "", ""
    left_out = [figure["left_out"] for figure in counted]
    return _range([figure["images"] for figure in counted]), f"{_range(left_out)} left out" if any(left_out) else ""


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return wording.count(low) if low == high else f"{wording.count(low)} to {wording.count(high)}"
