"""Tables of how good explanations are: one for each judge."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from maskrobust.lm_modules.explanation.explained import ExplainedImage
from maskrobust.lm_modules.explanation.judging import FEW_OBJECTS, JUDGES
from maskrobust.lm_modules.explanation.plan import EXPLAINERS
from maskrobust.lm_modules.reliance.catalogue import Described
from maskrobust.lm_modules.reliance.results import Row
from maskrobust.train.report.blocks import Cell, Line, prose, table
from maskrobust.train.report.wording import GOALS, count, interval, method_title, writer

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


def explainer_title(explainer: str, segments: str) -> str:
    """As in "LIME, Patches"."""
    return f"{EXPLAINERS[explainer]}, {segments_title(segments)}"


def judged(shown: Explanations) -> Markup | None:
    """A table for each judge; None where nothing was judged."""
    if not shown.settings["judge"]:
        return None
    judged_by = [row.images for row in shown.rows if row.measure in JUDGES and row.value is not None]
    text = prose("judged", "explain", few=FEW_OBJECTS if min(judged_by, default=0) < FEW_OBJECTS else 0)
    return text + Markup().join(judged_table(shown, each) for each in JUDGES.values())


def judged_table(shown: Explanations, judge: Described) -> Markup:
    """The values of one judge, with what they mean and rest on; empty where it has none."""
    rows = [row for row in shown.rows if row.measure == judge.name]
    if not rows:
        return Markup()
    lines: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        about = (row.network, str(row.parameters["explainer"]), str(row.parameters["segments"]))
        lines.setdefault(about, []).append(row)
    made = table(
        f"judged-{judge.name}",
        judge.title,
        ["Explainer and segments", *map(method_title, shown.methods), "Evidence of a difference"],
        [_line(shown, *about, found) for about, found in lines.items()],
        look="figures judged",
    )
    counted = [row for row in rows if row.value is not None] or rows
    images, left_out = ([getattr(row, name) for row in counted] for name in ("images", "left_out"))
    return prose(
        "judged_table",
        "explain",
        judge=judge,
        goal=GOALS[judge.goal],
        images=count(min(images), max(images)),
        left_out=count(min(left_out), max(left_out)),
        table=made,
    )


def _line(shown: Explanations, network: str, explainer: str, segments: str, rows: Sequence[Row]) -> Line:
    title = explainer_title(explainer, segments) + f", {network}" * (len(shown.networks) > 1)
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
        return Cell("undefined", reason=row.undefined_because or "")
    write = writer(JUDGES[row.measure].unit)
    value, ends = write(row.value), interval(row.low, row.high, write)
    if row.measure == "fidelity" and row.value < TRUSTED:
        return Cell(WARNING + value, ends, look="weak")
    return Cell(value, ends)
