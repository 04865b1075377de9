"""A claim: its verdicts, its rule, every arm under every method, and retention against reliance."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.markers import MarkerStyle
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import Affine2D

from maskrobust.lm_modules.methods import is_fill
from maskrobust.lm_modules.reliance.catalogue import HEADLINE
from maskrobust.lm_modules.reliance.results import Row, only, select
from maskrobust.train.report.blocks import Cell, Line, LineGroup, block, html, legend, named, prose, table
from maskrobust.train.report.charts import ACCENT, INK, colour_of, draw, tick
from maskrobust.train.report.findings import in_claim
from maskrobust.train.report.results import TRAINING, Network, Results
from maskrobust.train.report.tables import cell_of
from maskrobust.train.report.wording import CASES, in_sentence, in_words, listed, method_title, points


def verdict(results: Results) -> Markup:
    """What stands above all sections of a claim: both findings, one chart, and the reasons."""
    found = [*zip(results.verdicts, in_claim(results), strict=True)]
    return prose("verdicts", found=found, chart=retention(results))


def rule(results: Results) -> Markup:
    """The question, both claims, and the rule that was stated beforehand."""
    return prose("rule", **{name: results.content[name] for name in ("claims", "question", "rule")})


def factorial(results: Results) -> Markup:
    """The used share of every arm under every method, the verdicts by tolerance, and the manipulation checks."""
    mark = '<span class="mark" role="img" aria-label="{{ title|lower }}">{{ mark }}</span>'
    marks = {case: html(mark, title=title, mark=sign) for case, (title, sign) in CASES.items()}
    shares = {(row.network, row.method): row for row in select(results.over_seeds, measure=HEADLINE)}
    largest = max((abs(row.value) for row in shares.values() if row.value is not None), default=0.0) or 1.0

    def cell(arm: Mapping[str, Any], name: str, method: str) -> Cell:
        row = shares.get((name, method))
        compared = CASES if arm["augmentation_only"] else ("own",)
        cases = [case for case in compared if method in arm["cases"][case]]
        found = cell_of(row)
        found = found._replace(value=Markup().join(marks[case] for case in cases) + " " * bool(cases) + found.value)
        if row is None or row.value is None:
            return found
        look = "heat-cell" + " best" * ("best" in cases) + " aside" * (not is_fill(method) and not cases)
        return found._replace(look=look, shade=abs(row.value) / largest)

    lines = [
        Line(named(each), [cell(each.arm, each.name, method) for method in results.methods])
        for each in results.networks
    ]
    label = "Used share of every arm under every masking method"
    headings = ["Training", *map(method_title, results.methods)]
    return prose(
        "factorial",
        marks=marks,
        tolerance=results.content["rule"]["retention_tolerance"],
        shares=table("factorial-shares", label, headings, [LineGroup(lines)], look="heat"),
        without=_without_retention(results),
        tolerances=_tolerances(results),
        checks=_manipulation_checks(results),
    )


def _without_retention(results: Results) -> str:
    """The augmentation-only arms whose best case does not keep the retention asked for; empty where there is none."""
    found = [
        f"{network.title} ({listed([in_sentence(method_title(each)) for each in network.arm['cases']['best']])})"
        for network in results.networks
        if network.arm["augmentation_only"] and not network.arm["keeps_retention"]
    ]
    return listed(found) if found else ""


def _tolerances(results: Results) -> Markup:
    """The verdict of each case at each tolerance of clean accuracy, and how many arms count there."""
    by_tolerance: dict[float, dict[str, str]] = {}
    for each in results.content["verdicts"]:
        by_tolerance.setdefault(each["tolerance"], {})[each["case"]] = each["outcome"]
    compared, stated = (
        sum(network.arm["augmentation_only"] for network in results.networks),
        results.content["rule"]["clean_accuracy_tolerance"],
    )
    lines = []
    for tolerance, outcomes in by_tolerance.items():
        rows = select(results.rows, measure="reliance", parameters={"case": "best", "tolerance": tolerance})
        cells = [Cell(outcomes[case], look=f"outcome {outcomes[case]}") for case in CASES]
        cells.append(Cell(f"{sum(row.reading != 'does not count' for row in rows)} of {compared}"))
        of_rule = tolerance == stated
        lines.append(Line(points(tolerance) + " (the rule)" * of_rule, cells, "compared" * of_rule))
    headings = ["At most", *(name for name, _ in CASES.values()), "Arms that count"]
    return table("tolerances", "Verdict by tolerance of clean accuracy", headings, [LineGroup(lines)])


def _manipulation_checks(results: Results) -> Markup:
    """Each arm that trains on masks: what it is examined in, its own result, and the baseline's."""
    baseline = results.content["rule"]["baseline"]
    lines = []
    for each in results.networks:
        of_training = {"measure": "manipulation_check", "method": TRAINING, "parameters": {"training": each.name}}
        own = only(results.rows, network=each.name, **of_training)
        if own is not None:
            other = only(results.rows, network=baseline, **of_training)
            lines.append(
                Line(named(each), [Cell(each.arm["manipulation_check"], look="words"), cell_of(own), cell_of(other)])
            )
    if not lines:
        return Markup()
    headings = ["Training", "Examined in", "Its networks", results.network(baseline).title]
    return html("<h3>Did each training work?</h3>") + table(
        "manipulation_check", "Manipulation check of each arm", headings, [LineGroup(lines)], look="comparisons"
    )


_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
_LABEL = "Chart: accuracy with patches hidden against used share of the outline"
_SIZE = 420, 360


class Point(NamedTuple):
    """One arm under one masking method.

    Attributes:
        network: the arm.
        method: position of the masking method, from 0.
        best: whether it is the arm's best case, under which the rule looks at it.
        retention: accuracy with patches hidden at random, defined.
        used_share: the headline, defined.
    """

    network: Network
    method: int
    best: bool
    retention: Row
    used_share: Row


def retention(results: Results) -> Markup:
    """The chart, its legend, and what is not drawn."""
    points = chart_points(results)
    if not points:
        return html("<p>There is nothing to draw: in every arm a number is undefined, for the reasons given below.</p>")
    methods = [
        html("{{ mark }} {{ title }}", mark=block("marker", marker(place)), title=method_title(method))
        for place, method in enumerate(results.methods)
    ]
    return prose(
        "retention",
        chart=retention_chart(results, points),
        arms=legend(results.networks, "Arms"),
        methods=block("legend", "Masking methods", methods),
        has_band=reliance_limit(results) is not None,
        drawn=len(points),
        all=len(results.networks) * len(results.methods),
    )


def marker(method: int) -> str:
    """The marker of the masking method at a position from 0, as `points` of an SVG polygon within ±12."""
    style = MarkerStyle(_MARKERS[method % len(_MARKERS)])
    outline = style.get_path().transformed(style.get_transform()).transformed(Affine2D().scale(16.0)).to_polygons()[0]
    return " ".join(f"{x:.1f},{-y:.1f}" for x, y in np.asarray(outline, dtype=np.float64))


def chart_points(results: Results) -> list[Point]:
    """All arms under all methods of which both numbers are defined."""
    found = []
    hidden = {"hidden_fraction": results.content["hidden_fraction"]}
    for network in results.networks:
        for place, method in enumerate(results.methods):
            under = {"network": network.name, "method": method}
            kept = only(results.over_seeds, measure="retention", parameters=hidden, **under)
            share = only(results.over_seeds, measure=HEADLINE, **under)
            if kept and share and kept.value is not None and share.value is not None:
                case = "best" if network.arm["augmentation_only"] else "own"
                found.append(Point(network, place, method in network.arm["cases"][case], kept, share))
    return found


def retention_chart(results: Results, points: list[Point]) -> Markup:
    """Retention (x) against used share (y) of every arm under every masking method.

    At its best an arm is a large mark with its number and both intervals, under the other methods a small pale mark.
    A dashed line marks zero. A shaded band on both sides of it holds the used shares whose magnitude exceeds the
    layer-masking arm's by no more than the margin of the rule.
    """

    def paint(axes: Axes) -> None:
        axes.set_xlabel(f"Accuracy with {in_words(results.content['hidden_fraction'])} of the patches hidden (%)")
        axes.set_ylabel("Used share of the outline")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(100 * value)))
        axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
        axes.axhline(0.0, color=INK, alpha=0.55, linewidth=1.0, linestyle=(0, (4, 3)))
        axes.margins(0.08)
        limit = reliance_limit(results)
        if limit is not None:
            axes.axhspan(-limit, limit, color=ACCENT, alpha=0.14, linewidth=0)
        for point in points:
            _draw_point(axes, point)

    return draw(paint, "retention", _LABEL, _SIZE)


def reliance_limit(results: Results) -> float | None:
    """Reliance of the layer-masking arm under its own method, plus the margin; None where it is not known."""
    rule = results.content["rule"]
    arm = results.network(rule["layer_masking_arm"])
    share = only(results.over_seeds, measure=HEADLINE, network=arm.name, method=arm.arm["method"])
    return None if share is None or share.value is None else abs(share.value) + float(rule["margin"])


def _draw_point(axes: Axes, point: Point) -> None:
    x, y = point.retention.value or 0.0, point.used_share.value or 0.0
    colour, mark = colour_of(point.network.colour), _MARKERS[point.method % len(_MARKERS)]
    if not point.best:
        axes.plot([x], [y], marker=mark, color=colour, markersize=5.5, markeredgewidth=0, alpha=0.6, zorder=2)
        return
    for row, horizontal in ((point.retention, True), (point.used_share, False)):
        if row.low is not None and row.high is not None:
            ends = [row.low, row.high]
            axes.plot(*((ends, [y, y]) if horizontal else ([x, x], ends)), color=colour, linewidth=1.6, alpha=0.5)
    axes.plot([x], [y], marker=mark, color=colour, markersize=9, markeredgewidth=0, zorder=3)
    axes.annotate(
        str(point.network.number), (x, y), xytext=(6, 5), textcoords="offset points", fontsize="medium", color=colour,
        fontweight="bold", zorder=4,
    )  # fmt: skip
