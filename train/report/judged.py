"""How good explanations are, as tables: one for each measure, a line an explainer, a column a masking method."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from maskrobust.lm_modules.explanation.judged_rows import CIRCULAR
from maskrobust.lm_modules.explanation.judging import MEASURES
from maskrobust.train.report.wording import GOALS, decimal, interval, method_title

EXPLAINERS = {
    "lime": "LIME",
    "kernel_shap": "KernelSHAP",
    "occlusion": "Occlusion",
    "rise": "RISE",
    "leave_one_out": "Leave one out",
}


class JudgedCell(NamedTuple):
    """A value under one masking method.

    Attributes:
        value: in words; why it is undefined, where it is.
        interval: in brackets; empty where there is none.
        circular: whether it was evaluated under the method that it was explained under.
    """

    value: str
    interval: str
    circular: bool


class JudgedLine(NamedTuple):
    """One explainer's values.

    Attributes:
        title: of explainer, segments, network, and of the method that it is evaluated under.
        cells: one for each masking method.
        settled: pairs of methods that are told apart.
    """

    title: str
    cells: list[JudgedCell]
    settled: list[str]


class JudgedTable(NamedTuple):
    """One measure.

    Attributes:
        measure: its key.
        title: in words.
        definition: and what to wish for.
        objects: how many the values rest on.
        lines: its lines.
    """

    measure: str
    title: str
    definition: str
    objects: str
    lines: list[JudgedLine]


def judged_tables(
    rows: Sequence[Mapping[str, Any]], methods: Sequence[str], several_networks: bool
) -> list[JudgedTable]:
    """Tables of the measures of `judging.MEASURES`, in their order; none where nothing was judged.

    Args:
        rows: of explanations.json.
        methods: masking methods, in the order of the columns.
        several_networks: whether lines name the network.
    """
    tables = []
    for key, measure in MEASURES.items():
        own = [row for row in rows if row["measure"] == key]
        lines: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
        for row in own:
            about = row["parameters"]
            line = (row["network"], about["explainer"], about["segments"], about.get("evaluated_under", ""))
            lines.setdefault(line, []).append(row)
        if own:
            counts = sorted({row["images"] for row in own})
            objects = " to ".join(str(each) for each in dict.fromkeys((counts[0], counts[-1])))
            definition = f"{measure.definition} {GOALS[measure.goal]}"
            made = [_line(line, found, methods, several_networks) for line, found in lines.items()]
            tables.append(JudgedTable(key, measure.title, definition, objects, made))
    return tables


def _line(
    line: tuple[str, ...], rows: Sequence[Mapping[str, Any]], methods: Sequence[str], several_networks: bool
) -> JudgedLine:
    network, explainer, segments, evaluated = line
    title = f"{EXPLAINERS[explainer]}, {segments}"
    title += f", evaluated under {method_title(evaluated)}" if evaluated else ""
    title += f", {network}" if several_networks else ""
    values = {row["method"]: row for row in rows if "minus" not in row["parameters"]}
    settled = [
        f"{method_title(row['method'])} {'>' if row['reading'] == 'above' else '<'} "
        f"{method_title(row['parameters']['minus'])}"
        for row in rows
        if "minus" in row["parameters"] and row["reading"] in ("above", "below")
    ]
    return JudgedLine(title, [_cell(values[method]) for method in methods], settled)


def _cell(row: Mapping[str, Any]) -> JudgedCell:
    if row["value"] is None:
        return JudgedCell(row["undefined_because"], "", False)
    return JudgedCell(decimal(row["value"]), interval(row["low"], row["high"], decimal), row["reading"] == CIRCULAR)
