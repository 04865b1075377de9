"""The table of explanations against object masks, and of surrogates against the network."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from maskrobust.lm_modules.explanation.explained import ExplainedImage
from maskrobust.lm_modules.explanation.judging import FEW_OBJECTS, JUDGES
from maskrobust.lm_modules.explanation.plan import EXPLAINERS
from maskrobust.lm_modules.reliance.results import Row
from maskrobust.train.report.blocks import Cell, Line, facts, prose, table
from maskrobust.train.report.wording import GOALS, interval, method_title, writer

TRUSTED = 0.5
"""Held-out R^2 below which the page warns."""

WARNING = "⚠ "

_SEGMENTS = {"slic": "SLIC", "quickshift": "Quickshift", "patches": "Patches"}


class Explanations(NamedTuple):
    """Everything that the page of `maskrobust explain` shows.

    Attributes:
        content: the content of explanations.json; its settings, masking methods (in the order of the columns) and names
            of networks follow.
        rows: rows of the result table.
        images: the images by name, with their pictures.
        class_names: names of all classes.
    """

    content: Mapping[str, Any]
    settings: Mapping[str, Any]
    methods: Sequence[str]
    networks: Sequence[str]
    rows: Sequence[Row]
    images: Mapping[str, ExplainedImage]
    class_names: Sequence[str]


def segments_title(name: str) -> str:
    """A segmentation in words."""
    return _SEGMENTS[name]


def judged(shown: Explanations) -> Markup | None:
    """A line for each judge, network, explainer and segmentation; None where nothing was judged."""
    lines: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in (row for row in shown.rows if row.measure in JUDGES):
        about = (row.measure, row.network, str(row.parameters["explainer"]), str(row.parameters["segments"]))
        lines.setdefault(about, []).append(row)
    if not lines:
        return None
    images = [row.images for rows in lines.values() for row in rows if row.value is not None]
    few = FEW_OBJECTS if min(images, default=0) < FEW_OBJECTS else 0
    judges = [(each.title, f"{each.definition} {GOALS[each.goal]}") for each in JUDGES.values()]
    headings = ["Judge, explainer and segments", *map(method_title, shown.methods), "Evidence of a difference"]
    made = [_line(shown, *about, found) for about, found in lines.items()]
    text = prose("judged", "explain", few=few) + facts(judges, look="definitions")
    return text + table("judged", "How good the explanations are", headings, made, look="figures judged")


def _line(shown: Explanations, judge: str, network: str, explainer: str, segments: str, rows: Sequence[Row]) -> Line:
    title = f"{JUDGES[judge].title}: {EXPLAINERS[explainer]}, {segments_title(segments)}"
    title += f", {network}" * (len(shown.networks) > 1)
    values = {row.method: row for row in rows if "minus" not in row.parameters}
    settled = [
        f"{method_title(row.method)} {'>' if row.reading == 'above' else '<'} "
        f"{method_title(str(row.parameters['minus']))}"
        for row in rows
        if "minus" in row.parameters and row.reading in ("above", "below")
    ]
    few = min((row.images for row in values.values()), default=0) < FEW_OBJECTS
    told_apart = Markup("<br>").join(settled or ["not tested" if few else "none"])
    return Line(title, [*(_cell(values[each]) for each in shown.methods), Cell(told_apart, look="words")])


def _cell(row: Row) -> Cell:
    if row.value is None:
        return Cell("undefined", row.undefined_because or "")
    write = writer(JUDGES[row.measure].unit)
    value, ends = write(row.value), interval(row.low, row.high, write)
    if row.measure == "fidelity" and row.value < TRUSTED:
        return Cell(WARNING + value, ends, look="weak")
    return Cell(value, ends)
