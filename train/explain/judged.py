"""Tables of how good explanations are: one for each judge."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from maskrobust.lm_modules.explanation.explained import Explained, ExplainedImage
from maskrobust.lm_modules.explanation.explainers.registry import find_explainer
from maskrobust.lm_modules.explanation.judges.ablation import HIDDEN_FRACTIONS
from maskrobust.lm_modules.explanation.judges.registry import JUDGES
from maskrobust.lm_modules.explanation.judging import CIRCULAR, FEW_OBJECTS
from maskrobust.lm_modules.reliance.catalogue import Described
from maskrobust.lm_modules.reliance.results import Row
from maskrobust.train.report.blocks import Cell, Line, LineGroup, block, html, panels, prose, table
from maskrobust.train.report.charts import Curve, line_chart
from maskrobust.train.report.wording import GOALS, count, in_sentence, interval, method_title, writer

TRUSTED = 0.5
"""Held-out R^2, or rank correlation between seeds, below which the page warns."""

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
    return f"{find_explainer(explainer).title}, {segments_title(segments)}"


def judged(shown: Explanations) -> Markup | None:
    """A table for each judge that was asked, and deletion and insertion curves; None where nothing was judged."""
    if not shown.settings["judge"]:
        return None
    judged_by = [row.images for row in shown.rows if row.measure in JUDGES and row.value is not None]
    text = prose("judged", few=FEW_OBJECTS if min(judged_by, default=0) < FEW_OBJECTS else 0)
    return text + Markup().join(judged_table(shown, each) for each in JUDGES.values()) + _curves(shown)


def judged_table(shown: Explanations, judge: Described) -> Markup:
    """The values of one judge, with what they mean and rest on; empty where it has none."""
    rows = [row for row in shown.rows if row.measure == judge.name]
    if not rows:
        return Markup()
    lines: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        about = (str(row.parameters.get(name, "")) for name in ("explainer", "segments", "evaluated_under"))
        lines.setdefault((row.network, *about), []).append(row)
    made = table(
        f"judged-{judge.name}",
        judge.title,
        ["Explainer and segments", *map(method_title, shown.methods), "Evidence of a difference"],
        [LineGroup([_line(shown, *about, rows=found) for about, found in lines.items()])],
        look="figures judged",
    )
    counted = [row for row in rows if row.value is not None] or rows
    images, left_out = ([getattr(row, name) for row in counted] for name in ("images", "left_out"))
    return prose(
        "judged_table",
        judge=judge,
        goal=GOALS[judge.goal],
        images=count(min(images), max(images)),
        left_out=count(min(left_out), max(left_out)),
        table=made,
    )


def _line(
    shown: Explanations, network: str, explainer: str, segments: str, evaluated: str, *, rows: Sequence[Row]
) -> Line:
    parts = [explainer_title(explainer, segments)]
    parts += [f"evaluated under {method_title(evaluated)}"] if evaluated else []
    parts += [network] if len(shown.networks) > 1 else []
    values = {row.method: row for row in rows if "minus" not in row.parameters}
    settled = [
        f"{method_title(row.method)} {'>' if row.reading == 'above' else '<'} "
        f"{method_title(str(row.parameters['minus']))}"
        for row in rows
        if "minus" in row.parameters and row.reading in ("above", "below")
    ]
    few = min((row.images for row in values.values()), default=0) < FEW_OBJECTS
    told_apart = Markup("<br>").join(settled or ["not tested" if few else "none"])
    return Line(", ".join(parts), [*(_cell(values[each]) for each in shown.methods), Cell(told_apart, look="words")])


def _cell(row: Row) -> Cell:
    if row.value is None:
        return Cell("undefined", reason=row.undefined_because or "")
    write = writer(JUDGES[row.measure].unit)
    value, ends = write(row.value), interval(row.low, row.high, write)
    if row.reading == CIRCULAR:
        return Cell(f"({value})", ends, look="quiet")
    if row.measure in ("fidelity", "stability") and row.value < TRUSTED:
        return Cell(WARNING + value, ends, look="weak")
    return Cell(value, ends)


def _curves(shown: Explanations) -> Markup:
    """Deletion and insertion of each network's explainers, a chart for each method to evaluate under."""
    if not any(each.curves for each in shown.images.values()):
        return Markup()
    key = '<span class="key" style="background: var(--arm-{{ number }})"></span>{{ title }}'
    keys = [html(key, number=each, title=method_title(method)) for each, method in enumerate(shown.methods, start=2)]
    text = prose("curves", legend=block("legend", "Explained under", keys))
    rows = itertools.product(shown.settings["explainers"], shown.settings["segments"])
    for (place, about), (number, network) in itertools.product(enumerate(rows), enumerate(shown.networks)):
        explainer, segments = about
        found = {
            which: np.mean(
                [each.curves[Explained(segments, explainer), which][number] for each in shown.images.values()], axis=0
            )
            for which in ("insertion", "deletion")
        }
        title = explainer_title(explainer, segments) + f", {network}" * (len(shown.networks) > 1)
        drawings = [
            line_chart(
                [
                    Curve(explained + 2, HIDDEN_FRACTIONS, values[explained, at], strong=explained != at, dashed=dashed)
                    for explained in range(len(shown.methods))
                    for values, dashed in ((found["insertion"], False), (found["deletion"], True))
                ],
                f"curves-{number}-{place}-{at}",
                f"Evaluated under {in_sentence(method_title(method))}",
                "Hidden area (%)",
                "Probability (%)",
                label=f"Deletion and insertion of {title}",
                limits=(0.0, 1.05 * max(values.max() for values in found.values())),
            )
            for at, method in enumerate(shown.methods)
        ]
        text += html("<h4>{{ title }}</h4>", title=title) + panels(drawings)
    return text
