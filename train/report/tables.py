"""Every number of a result table: one table of all rows, which its reader sorts and thins out."""

import math
from collections.abc import Callable, Mapping
from typing import Any, get_args

from markupsafe import Markup

from maskrobust.lm_modules.reliance.catalogue import Described, Group, Parameters, catalogue
from maskrobust.lm_modules.reliance.results import Row
from maskrobust.train.report.blocks import page_part
from maskrobust.train.report.results import Results
from maskrobust.train.report.wording import GOALS, PERCENT, family_title, in_sentence, interval, method_title, writer

GROUP_TITLES: Mapping[Group, str] = {
    "outline": "outlines",
    "holes": "holes of the images",
    "accuracy": "accuracy",
    "remains": "checks",
    "curves": "curves",
    "transfer": "mask families",
    "pixels": "pixels",
    "own": "own measures",
}
"""What the table can be thinned out to."""

SORTED_BY = ("measure", "network", "way of hiding", "value")


def numbers(results: Results) -> Markup:
    """All rows over all seeds but the points of curves, as one table that its reader sorts and thins out."""
    rows = [row for row in results.rows if row.seed is None and row.measure != "curve_accuracy"]
    title = {"": "", **{each.name: each.title for each in results.networks}}
    known = catalogue()
    measured = {known[row.measure].group for row in rows}
    order, groups = [*known], [each for each in get_args(Group) if each in measured]

    def place(by: Callable[[Row], Any]) -> list[int]:
        """The rank of every row, in the order of the rows."""
        ranked = sorted(range(len(rows)), key=lambda at: (by(rows[at]), at))
        return [rank for _, rank in sorted(zip(ranked, range(len(rows)), strict=True))]

    def measure_of(row: Row) -> Any:
        return order.index(row.measure), str(sorted(row.parameters.items())), bool(row.compared_with)

    by = (
        measure_of,
        lambda row: (title[row.network].lower(), measure_of(row)),
        lambda row: (row.method, measure_of(row)),
        lambda row: math.inf if row.value is None else row.value,
    )
    lines = []
    for row, *places in zip(rows, *map(place, by), strict=True):
        entry = known[row.measure]
        write = writer(entry.unit, difference=bool(row.compared_with))
        value = "undefined" if row.value is None else write(row.value)
        other_method = f" minus {in_sentence(method_title(row.compared_method))}" if row.compared_method else ""
        other = f" minus {title[row.compared_with]}" * (bool(row.compared_with) and not row.compared_method)
        lines.append({
            "places": places,
            "group": groups.index(entry.group) + 1,
            "cells": [title[row.network] + other, (method_title(row.method) if row.method else "") + other_method],
            "measure": _heading(entry, row.parameters),
            "definition": f"{entry.definition} {GOALS[entry.goal]}".strip(),
            "numbers": [value, interval(row.low, row.high, write), f"{row.images:,}"],
            "says": row.undefined_because or row.reading,
        })  # fmt: skip
    choices = {"Sorted by": SORTED_BY, "Shown": ["all", *(GROUP_TITLES[each] for each in groups)]}
    has_seeds = len(results.content.get("seeds", ())) > 1
    return page_part("numbers.html", lines=lines, choices=choices, has_seeds=has_seeds)


def _heading(entry: Described, of: Parameters) -> str:
    """The title of a measure, with the parameters that it does not name, as in "Commonest class (class: cat)"."""
    parameters = dict(of)
    if "family" in parameters:
        parameters["family"] = family_title(str(parameters["family"]))
    further = [
        f"{name.replace('_', ' ')}: {each}" for name, each in parameters.items() if f"{{{name}" not in entry.title
    ]
    title = entry.title.format(**parameters).replace("%", PERCENT)
    return f"{title} ({', '.join(further)})" if further else title
