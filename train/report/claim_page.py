"""The claim as one HTML page that needs nothing from anywhere else."""

from collections.abc import Mapping, Sequence
from typing import Any

from maskrobust.errors import InputError
from maskrobust.train.report import wording
from maskrobust.train.report.cells import CellWriter
from maskrobust.train.report.columns import LAYER_FIGURES, column_groups
from maskrobust.train.report.comparisons import comparison_rows, is_compared
from maskrobust.train.report.curve_chart import CurveLine
from maskrobust.train.report.curves import curves_of
from maskrobust.train.report.examples import ExampleStrip
from maskrobust.train.report.figure_tables import (
    Block,
    FigureRow,
    FigureTable,
    figure_tables,
    layer_tables,
    present_figures,
)
from maskrobust.train.report.networks import Network, networks_of_claim
from maskrobust.train.report.retention_chart import (
    CHART_SIZES,
    chart_points,
    marker_points,
    reliance_limit,
    retention_chart,
)
from maskrobust.train.report.shared_content import example_groups, shared_content
from maskrobust.train.report.spreadsheet import claim_csv
from maskrobust.train.report.templates import render_template
from maskrobust.train.report.transfer import transfer_matrices

OUTCOMES = {"supported": "Supported", "refuted": "Refuted", "undecided": "Undecided"}
_FORMAT = 2


def render_claim(claim: Mapping[str, Any], examples: Sequence[ExampleStrip]) -> str:
    """One self-contained page: verdict, rule, charts, tables, pictures, definitions, settings, and claim.json itself.

    Args:
        claim: the content of claim.json, format 2. Sections on curves and on transfer are left out where it has none.
        examples: what `example_strips` returns; may be empty.

    Returns:
        HTML that loads nothing: styles, drawings and pictures are inside, and its content security policy forbids
        scripts and every request. Equal arguments give equal text.

    Raises:
        InputError: the claim holds a number that is not finite, or has another format.
    """
    if claim["format"] != _FORMAT:
        raise InputError(
            f"the report shows claim.json of format {_FORMAT}, got {claim['format']}; run the claim again."
        )
    return render_template("claim.html.j2", ("page.css",), **_content(claim, examples))


def _content(claim: Mapping[str, Any], examples: Sequence[ExampleStrip]) -> dict[str, Any]:
    cells, networks = CellWriter(), networks_of_claim(claim)
    probe = cells.write(claim["probe"]["accuracy"], wording.percent)
    results, seeds = (_tables(claim, networks, cells, by_seed) for by_seed in (False, True))
    lines = _curve_lines(claim, networks)
    return {
        "claim": claim,
        "outcome": OUTCOMES[claim["verdict"]["outcome"]],
        "conclusion": wording.CONCLUSIONS[claim["verdict"]["outcome"]],
        "comparisons": comparison_rows(claim),
        "charts": [(name, retention_chart(claim, size, name)) for name, size in CHART_SIZES.items()],
        "markers": [(wording.method_title(name), _marker(claim, name)) for name in claim["methods"]],
        "has_band": reliance_limit(claim) is not None,
        "not_drawn": len(chart_points(claim)[1]),
        "probe": probe,
        "majority": wording.or_undefined(claim["probe"]["majority_share"], wording.percent),
        "tables": results,
        "seed_tables": seeds,
        "layer_tables": layer_tables(networks, column_groups(LAYER_FIGURES), cells),
        "curves": [curves_of(lines, cells)] if lines else [],
        "matrices": transfer_matrices(networks, cells),
        "examples": example_groups(examples),
        **shared_content(claim, "claim", claim_csv(claim), networks, [*results, *seeds], cells),
    }


def _tables(
    claim: Mapping[str, Any], networks: Sequence[Network], cells: CellWriter, by_seed: bool
) -> list[FigureTable]:
    rows = _seed_rows if by_seed else _rows
    blocks = [Block(network, _tag(claim, network, by_seed), rows(claim, network)) for network in networks]
    groups = column_groups(present_figures(blocks), claim["hidden_fraction"])
    return figure_tables("seeds" if by_seed else "results", blocks, groups, cells)


def _rows(claim: Mapping[str, Any], network: Network) -> tuple[FigureRow, ...]:
    return tuple(
        FigureRow(
            wording.method_title(method),
            _marker(claim, method),
            is_compared(claim, network.name, method),
            network.methods[method],
        )
        for method in claim["methods"]
    )


def _seed_rows(claim: Mapping[str, Any], network: Network) -> tuple[FigureRow, ...]:
    return tuple(
        FigureRow(f"{wording.method_title(method)}, seed {seed}", "", False, figures)
        for method in claim["methods"]
        for seed, figures in network.entry["methods"][method]["seeds"].items()
    )


def _tag(claim: Mapping[str, Any], network: Network, by_seed: bool) -> str:
    return "augmentation only" if claim["arms"][network.name]["augmentation_only"] and not by_seed else ""


def _marker(claim: Mapping[str, Any], method: str) -> str:
    return marker_points(list(claim["methods"]).index(method))


def _curve_lines(claim: Mapping[str, Any], networks: Sequence[Network]) -> list[CurveLine]:
    """The curves of every arm under its own method; those that the rule compares stand out."""
    own = [(network, claim["arms"][network.name]["method"]) for network in networks]
    return [
        CurveLine(network, is_compared(claim, network.name, method), network.methods[method]["curves"])
        for network, method in own
        if "curves" in network.methods.get(method, {})
    ]
