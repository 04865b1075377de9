"""How good explanations are, as tables: one for each measure, a line an explainer, a column a masking method."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from maskrobust.lm_modules.explanation.explained import Explained, ExplainedImage
from maskrobust.lm_modules.explanation.explainers.registry import find_explainer
from maskrobust.lm_modules.explanation.judged_rows import CIRCULAR, CONSTANT_COLOURS, FEW_OBJECTS
from maskrobust.lm_modules.explanation.judges.ablation import HIDDEN_FRACTIONS
from maskrobust.lm_modules.explanation.judges.registry import JUDGES
from maskrobust.lm_modules.explanation.plan import JudgingPlan
from maskrobust.lm_modules.reliance.arrays import FloatArray
from maskrobust.lm_modules.reliance.results import Row
from maskrobust.train.report.svg import INK, PANEL, draw
from maskrobust.train.report.wording import GOALS, in_sentence, interval, method_title, writer

TRUSTED = 0.5
"""Held-out R^2, or rank correlation between seeds, below which the page warns."""

CURVE_COLOUR = "#fe00{:02x}"
"""Becomes the page's colour of that number; see `svg.draw`."""

_SEGMENTS = {
    "slic": "SLIC",
    "quickshift": "Quickshift",
    "patches": "Patches",
    "decoys": "Decoys",
}


def segments_title(name: str) -> str:
    """A segmentation in words; that of a file is called by its name."""
    return _SEGMENTS.get(name, Path(name).stem)


class JudgedCell(NamedTuple):
    """A value under one masking method.

    Attributes:
        value: in words.
        interval: in brackets; empty where there is none.
        circular: whether it was evaluated under the method that it was explained under.
        is_weak: whether it is a fidelity or stability so low that the explanations should not be read.
    """

    value: str
    interval: str
    circular: bool
    is_weak: bool


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
        objects: how many the values rest on, and how many are left out.
        columns: masking methods in words.
        lines: its lines.
        reasons: why some of it is undefined.
        few: whether there are so few objects that intervals are too narrow.
        is_matrix: whether lines say which method was evaluated under.
        is_folded: whether the reader opens it.
    """

    measure: str
    title: str
    definition: str
    objects: str
    columns: list[str]
    lines: list[JudgedLine]
    reasons: list[str]
    few: bool
    is_matrix: bool
    is_folded: bool


def judged_tables(rows: Sequence[Row], methods: Sequence[str], several_networks: bool) -> list[JudgedTable]:
    """Tables of the measures of `JUDGES`, in their order; none where nothing was judged.

    Args:
        rows: of the result table.
        methods: masking methods, in the order of the columns.
        several_networks: whether lines name the network.
    """
    tables = []
    for key, measure in JUDGES.items():
        own = [row for row in rows if row.measure == key]
        ks = list(dict.fromkeys(row.parameters["k"] for row in own if "k" in row.parameters))
        shown = [k for k in ks if k in JudgingPlan.top_k] or ks[: len(JudgingPlan.top_k)]
        own = [row for row in own if not ks or row.parameters["k"] in shown]
        columns = [each for each in (*methods, CONSTANT_COLOURS) if any(row.method == each for row in own)]
        lines: dict[tuple[str, ...], list[Row]] = {}
        for row in own:
            about = row.parameters
            line = (
                row.network,
                *(str(about.get(name, "")) for name in ("explainer", "segments", "evaluated_under", "k")),
            )
            lines.setdefault(line, []).append(row)
        if own:
            counted = [row for row in own if row.value is not None] or own
            objects = f"{_range([row.images for row in counted])} objects"
            if any(row.left_out for row in counted):
                objects += f", {_range([row.left_out for row in counted])} left out"
            definition = f"{measure.definition} {GOALS[measure.goal]}"
            made = [_line(line, found, columns, several_networks) for line, found in lines.items()]
            reasons = [*dict.fromkeys(row.undefined_because for row in own if row.undefined_because)]
            matrix = "evaluated_under" in own[0].parameters
            titles, few = [method_title(each) for each in columns], min(row.images for row in counted) < FEW_OBJECTS
            tables.append(
                JudgedTable(key, measure.title, definition, objects, titles, made, reasons, few, matrix, bool(ks))
            )
    return tables


def _range(numbers: Sequence[int]) -> str:
    return " to ".join(str(each) for each in dict.fromkeys((min(numbers), max(numbers))))


def _line(line: tuple[str, ...], rows: Sequence[Row], methods: Sequence[str], several_networks: bool) -> JudgedLine:
    network, explainer, segments, evaluated, k = line
    title = f"{find_explainer(explainer).title}, {segments_title(segments)}"
    title += f", evaluated under {method_title(evaluated)}" if evaluated else ""
    title += f", k = {k}" if k else ""
    title += f", {network}" if several_networks else ""
    values = {row.method: row for row in rows if "minus" not in row.parameters}
    settled = [
        f"{method_title(row.method)} {'>' if row.reading == 'above' else '<'} "
        f"{method_title(str(row.parameters['minus']))}"
        for row in rows
        if "minus" in row.parameters and row.reading in ("above", "below")
    ]
    return JudgedLine(title, [_cell(values[method]) for method in methods], settled)


def _cell(row: Row) -> JudgedCell:
    if row.value is None:
        return JudgedCell("undefined", "", False, False)
    is_weak = row.measure in ("fidelity", "stability") and row.value < TRUSTED
    write = writer(JUDGES[row.measure].unit)
    return JudgedCell(write(row.value), interval(row.low, row.high, write), row.reading == CIRCULAR, is_weak)


def curve_charts(images: Sequence[ExplainedImage], content: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Deletion and insertion of each network's explainers: a title, and a drawing for each method to evaluate under."""
    methods, settings = content["methods"], content["settings"]
    charts: list[tuple[str, list[str]]] = []
    for number, network in enumerate(content["networks"]):
        for explainer, segments in itertools.product(settings["explainers"], settings["segments"]):
            deletion, insertion = (
                np.mean([each.curves[Explained(segments, explainer), which][number] for each in images], axis=0)
                for which in ("deletion", "insertion")
            )
            title = f"{find_explainer(explainer).title}, {segments_title(segments)}"
            title += f", {network}" if len(content["networks"]) > 1 else ""
            top = 1.05 * max(deletion.max(), insertion.max())
            drawings = [
                _curve_chart(deletion[:, at], insertion[:, at], at, method, top, f"curves-{len(charts)}", title)
                for at, method in enumerate(methods)
            ]
            charts.append((title, drawings))
    return charts


def _curve_chart(
    deletion: FloatArray, insertion: FloatArray, evaluated: int, method: str, top: float, identity: str, title: str
) -> str:
    """Curves (explained under T, F) that were evaluated under the method at one place."""

    def paint(axes: Axes) -> None:
        axes.set(xlabel="Hidden area", ylabel="Probability", ylim=(0.0, top))
        axes.set_title(f"Evaluated under {in_sentence(method_title(method))}", color=INK, fontsize="medium", loc="left")
        for explained, (hidden_last, hidden_first) in enumerate(zip(insertion, deletion, strict=True)):
            width, colour = 1.0 if explained == evaluated else 2.4, CURVE_COLOUR.format(explained + 2)
            axes.plot(HIDDEN_FRACTIONS, hidden_last, color=colour, linewidth=width)
            axes.plot(HIDDEN_FRACTIONS, hidden_first, "--", color=colour, linewidth=width)

    label = f"Deletion and insertion of {title}, evaluated under {in_sentence(method_title(method))}"
    return draw(paint, PANEL, f"{identity}-{evaluated}", label)
