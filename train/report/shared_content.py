"""What the pages of a claim and of an evaluation both show, for their templates."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from maskrobust.train.report import wording
from maskrobust.train.report.cells import CellWriter
from maskrobust.train.report.columns import INTERVAL_DEFINITION
from maskrobust.train.report.curves import CURVE_DEFINITION
from maskrobust.train.report.examples import ExampleStrip
from maskrobust.train.report.figure_tables import FigureTable
from maskrobust.train.report.networks import Network
from maskrobust.train.report.templates import compact_json
from maskrobust.train.report.transfer import TRANSFER_DEFINITION


class ExampleGroup(NamedTuple):
    """The example pictures of one masking method.

    Attributes:
        title: of the method.
        masked: whether it is layer masking.
        strips: its rows of pictures.
    """

    title: str
    masked: bool
    strips: list[ExampleStrip]


def shared_content(
    content: Mapping[str, Any],
    name: str,
    csv: str,
    networks: Sequence[Network],
    tables: Sequence[FigureTable],
    cells: CellWriter,
) -> dict[str, Any]:
    """Networks, definitions, footnotes and downloads.

    Args:
        content: of claim.json or reliance.json.
        name: "claim" or "reliance".
        csv: the same numbers as CSV.
        networks: in order.
        tables: whose columns are defined.
        cells: has written every cell of the page.

    Raises:
        ValueError: a number is not finite.
    """
    columns = {column.key: column for table in tables for column in table.columns}
    return {
        "networks": networks,
        "definitions": [(column.title, column.definition) for column in columns.values()],
        "interval_definition": INTERVAL_DEFINITION,
        "curve_definition": CURVE_DEFINITION,
        "transfer_definition": TRANSFER_DEFINITION,
        "notes": cells.notes,
        "data_name": name,
        "json": compact_json(content),
        "csv": csv,
        "provenance": content["provenance"],
    }


def example_groups(examples: Sequence[ExampleStrip]) -> list[ExampleGroup]:
    """Strips by masking method, in order; those without pictures are left out."""
    groups: dict[str | None, list[ExampleStrip]] = {}
    for strip in examples:
        if strip.images:
            groups.setdefault(strip.method, []).append(strip)
    return [
        ExampleGroup(
            "Nothing hidden" if method is None else wording.method_title(method), method == "layer_masking", strips
        )
        for method, strips in groups.items()
    ]
