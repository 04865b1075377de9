"""A claim as one picture: the used share of every arm under every masking method, and the verdict by tolerance."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from maskrobust.lm_modules.methods import is_fill
from maskrobust.lm_modules.reliance.catalogue import HEADLINE
from maskrobust.lm_modules.reliance.results import only, select
from maskrobust.train.report.results import TRAINING, Network, Results
from maskrobust.train.report.tables import Cell, CellWriter
from maskrobust.train.report.wording import in_sentence, listed, method_title

CASE_TITLES = {"best": "Best case", "own": "Own method", "worst": "Worst case"}


class FactorialCell(NamedTuple):
    """An arm under one masking method.

    Attributes:
        cell: its used share.
        fraction: the share's magnitude over the largest of all, in [0, 1], for the colour; empty where there is none.
        cases: of the arm that are this method: "best", "own", "worst".
        is_candidate: whether it may be one of them.
    """

    cell: Cell
    fraction: str
    cases: list[str]
    is_candidate: bool


class Tolerance(NamedTuple):
    """The verdict at one tolerance of clean accuracy.

    Attributes:
        points: the tolerance, a fraction.
        outcomes: of each case.
        counted: augmentation-only arms that count.
        is_stated: whether it is that of the rule.
    """

    points: float
    outcomes: list[str]
    counted: int
    is_stated: bool


def factorial_section(results: Results, cells: CellWriter) -> dict[str, Any]:
    """The heat map, the verdicts by tolerance, and the manipulation checks."""
    return {
        "methods": [method_title(method) for method in results.methods],
        "rows": _rows(results, cells),
        "without_retention": _without_retention(results),
        "cases": CASE_TITLES,
        "tolerances": _tolerances(results),
        "compared": sum(network.arm["augmentation_only"] for network in results.networks),
        "manipulation_checks": _manipulation_checks(results, cells),
    }


def _rows(results: Results, cells: CellWriter) -> list[tuple[Network, list[FactorialCell]]]:
    shares = {(row.network, row.method): row for row in select(results.over_seeds, measure=HEADLINE)}
    largest = max((abs(row.value) for row in shares.values() if row.value is not None), default=0.0) or 1.0

    def cell(network: Network, method: str) -> FactorialCell:
        row = shares.get((network.name, method))
        fraction = "" if row is None or row.value is None else f"{abs(row.value) / largest:.3f}"
        found = [case for case, chosen in network.arm["cases"].items() if chosen == method]
        return FactorialCell(cells.write(row), fraction, found, is_fill(method) or bool(found))

    return [(network, [cell(network, method) for method in results.methods]) for network in results.networks]


def _without_retention(results: Results) -> str:
    """The augmentation-only arms whose best case does not keep the retention asked for; empty where there is none."""
    found = [
        f"{network.title} ({in_sentence(method_title(network.arm['cases']['best']))})"
        for network in results.networks
        if network.arm["augmentation_only"] and not network.arm["keeps_retention"]
    ]
    return listed(found) if found else ""


def _tolerances(results: Results) -> list[Tolerance]:
    by_tolerance: dict[float, list[Mapping[str, Any]]] = {}
    for verdict in results.content["verdicts"]:
        by_tolerance.setdefault(verdict["tolerance"], []).append(verdict)
    found = []
    for tolerance, verdicts in by_tolerance.items():
        rows = select(results.rows, measure="reliance", parameters={"case": "best", "tolerance": tolerance})
        outcomes = {verdict["case"]: verdict["outcome"] for verdict in verdicts}
        found.append(
            Tolerance(
                tolerance,
                [outcomes[case] for case in CASE_TITLES],
                sum(row.reading != "does not count" for row in rows),
                any(map(results.is_of_the_rule, verdicts)),
            )
        )
    return found


def _manipulation_checks(results: Results, cells: CellWriter) -> list[tuple[Network, str, Cell, Cell]]:
    """Each arm that trains on masks: the quantity, its own result, and the baseline's."""
    found = []
    for network in results.networks:
        of_training = {"measure": "manipulation_check", "method": TRAINING, "parameters": {"training": network.name}}
        own = only(results.rows, network=network.name, **of_training)
        if own is not None:
            baseline = only(results.rows, network=results.content["rule"]["baseline"], **of_training)
            found.append((network, network.arm["manipulation_check"], cells.write(own), cells.write(baseline)))
    return found
