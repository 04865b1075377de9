"""What most people look for first: accuracy by how much is hidden, and of each class."""

from collections.abc import Hashable
from dataclasses import replace

from markupsafe import Markup

from maskrobust.lm_modules.reliance.results import Row, select
from maskrobust.train.report.blocks import Line, LineGroup, folded, legend, named, panels, prose, table
from maskrobust.train.report.charts import charts_by_method
from maskrobust.train.report.results import Results
from maskrobust.train.report.tables import cell_of, pivot
from maskrobust.train.report.wording import method_title, percent

_MOST_CLASSES = 20
"""Of which a table is shown unfolded."""


def accuracy(results: Results) -> Markup:
    """A chart for each masking method, and a table: networks and masking methods by hidden fraction."""
    columns = accuracy_by_fraction(results)
    points = [row for rows in columns.values() for row in rows]
    names = "hidden_fraction", "accuracy", "Hidden fraction of the image (%)", "Accuracy (%)"
    charts = charts_by_method(results, points, *names, label="Chart: accuracy against the hidden fraction")
    has_curves = any(row.measure == "curve_accuracy" for row in points)
    text = prose("accuracy", has_curves=has_curves)
    headings = ["Network and method", *(f"{percent(fraction).replace('.0', '')} hidden" for fraction in columns)]
    by_fraction: dict[Hashable, list[Row]] = dict(columns.items())
    shown = pivot(
        "accuracies", "Accuracy by hidden fraction", headings, by_fraction, results,
        lambda row: (method_title(row.method), ""),
    )  # fmt: skip
    return text + panels(charts, legend(results.networks)) + shown


def accuracy_by_fraction(results: Results) -> dict[float, list[Row]]:
    """By hidden fraction in [0, 1): clean accuracy, retention, and where these are silent the curve of random patches.

    Every row has the parameter "hidden_fraction".
    """
    rows = [row for row in results.over_seeds if row.method in results.methods]
    drawn = {"family": "patches", "order": "random"}
    by_measure = [
        [replace(row, parameters={"hidden_fraction": 0.0}) for row in select(rows, measure="clean_accuracy")],
        select(rows, measure="retention"),
        [row for row in select(rows, measure="curve_accuracy") if drawn.items() <= row.parameters.items()],
    ]
    found: dict[float, list[Row]] = {}
    for each in by_measure:
        of_one: dict[float, list[Row]] = {}
        for row in each:
            of_one.setdefault(float(row.parameters["hidden_fraction"]), []).append(row)
        found = of_one | found
    return {fraction: found[fraction] for fraction in sorted(found) if fraction < 1.0}


def accuracy_of_classes(results: Results) -> Markup | None:
    """A table for each network: classes by what is hidden, folded where there are many; None where there is none."""
    rows = select(results.over_seeds, measure="class_accuracy")
    classes = list(dict.fromkeys(str(row.parameters["class"]) for row in rows))
    if not rows:
        return None
    hidden = max(float(row.parameters["hidden_fraction"]) for row in rows)
    text = prose("accuracy_of_classes", hidden=hidden)
    for network in results.networks:
        own = {(row.parameters["class"], row.method): row for row in select(rows, network=network.name)}
        methods = ["", *results.methods]
        lines = [
            Line(f"{each} ({own[each, ''].images:,} images)", [cell_of(own.get((each, method))) for method in methods])
            for each in classes
            if (each, "") in own
        ]
        if not lines:
            continue
        headings = ["Class", "Nothing hidden", *map(method_title, results.methods)]
        shown = table(f"classes-{network.number}", f"Classes, {network.title}", headings, [LineGroup(lines)])
        text += folded(named(network), shown, is_open=len(classes) <= _MOST_CLASSES)
    return text
