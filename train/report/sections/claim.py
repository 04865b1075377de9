"""Report sections of a claim: verdicts, rule, and every arm under every method."""

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
from maskrobust.train.report.results import TRAINING, Network, Results
from maskrobust.train.report.tables import cell_of
from maskrobust.train.report.wording import (
    CONCLUSIONS,
    capitalised,
    decimal,
    in_words,
    method_title,
    percents,
    under,
)

USED_SHARE = (
    "Used share: how much accuracy the outline adds over a circle, as a fraction of what it adds for a network that "
    "sees nothing but outlines (0: nothing, 1: as much)"
)


class View(NamedTuple):
    """A network under a masking method."""

    network: Network
    method: str


def row_of(results: Results, view: View, measure: str, hidden: float) -> Row | None:
    """The row of a measure, of its member nearest to a hidden fraction; None where there is none with a value."""
    rows = select(results.defined, network=view.network.name, method=view.method, measure=measure)
    return min(rows, key=lambda row: abs(float(row.parameters.get("hidden_fraction", hidden)) - hidden), default=None)


def in_claim(results: Results) -> list[str]:
    """The news of a claim: what has come of each of its two claims, with the numbers behind it.

    The first claim names the arm that relies the least where it is refuted, else the range over arms. Of the pairs of
    an arm and a fill the second names the one that keeps the most accuracy, among those that refute it, else among
    those that leave it open, else among all.
    """
    reference = results.network(results.content["rule"]["layer_masking_arm"])
    masked = _kept_and_share(results, View(reference, str(reference.arm["method"])))
    found = [
        (row.reading, view, *each)
        for row in results.comparisons
        if row.reading != "does not count"
        if (each := _kept_and_share(results, view := View(results.network(row.network), row.method)))
    ]
    own = {share: view for _, view, _, share in found if view.method == results.own_method(view.network)}
    conclusions = [CONCLUSIONS[each["case"]][each["outcome"]] for each in results.verdicts]
    if not own or masked is None:
        return conclusions
    decisive = ([each for each in found if each[0] == reading] for reading in ("does as well", "open"))
    _, best, kept, share = max(next(filter(None, decisive), found), key=lambda each: each[2])
    half = in_words(float(results.content["hidden_fraction"]))
    relied = " to ".join(dict.fromkeys(map(decimal, (min(own), max(own)))))
    if results.verdicts[0]["outcome"] == "refuted":
        least = min(own, key=abs)
        relied = f"{decimal(least)} for “{own[least].network.title}” {under(own[least].method)}"
    sizes = (
        f"used share {relied}; with layer masking {decimal(masked[1])}",
        f"{half} hidden: {percents(kept)} right at a used share of {decimal(share)} for “{best.network.title}” "
        f"{under(best.method)}; with layer masking {percents(masked[0])} at {decimal(masked[1])}",
    )
    return [
        f"{text} {capitalised(size)}." if text.endswith("?") else f"{text[:-1]} ({size})."
        for text, size in zip(conclusions, sizes, strict=True)
    ]


def _kept_and_share(results: Results, view: View) -> tuple[float, float] | None:
    """Accuracy with as many patches hidden as the rule says, and the used share; None where either is undefined."""
    hidden = float(results.content["hidden_fraction"])
    kept, share = (row_of(results, view, measure, hidden) for measure in ("retention", HEADLINE))
    return None if kept is None or share is None else (kept.value or 0.0, share.value or 0.0)


def verdict(results: Results) -> Markup:
    """What stands above all sections of a claim: both findings, one chart, the reasons, and which fills were tried."""
    found = [*zip(results.verdicts, in_claim(results), strict=True)]
    return prose(
        "verdicts", found=found, chart=retention(results), fills=results.content["fills"], used_share=USED_SHARE
    )


def rule(results: Results) -> Markup:
    """The question, both claims, the rule that was stated beforehand, and what the design could show."""
    return prose("rule", **{name: results.content[name] for name in ("claims", "question", "rule", "power")})


def pairs_of_the_rule(results: Results) -> Markup:
    """Every augmentation-only arm under every fill against the layer-masking arm, and what was shown of the pair."""
    hidden = {"hidden_fraction": results.content["hidden_fraction"]}
    baseline = results.network(results.content["rule"]["baseline"])
    groups = []
    for network in results.networks:
        lines = []
        for row in select(results.comparisons, network=network.name):
            under_fill = select(results.rows, network=network.name, method=row.method)
            kept = only(under_fill, compared_with=row.compared_with, measure="retention", parameters=hidden)
            bare = only(under_fill, compared_with=baseline.name, measure="reliance")
            mark = _own_mark() + " " if row.method == network.arm["method"] else ""
            cells = [cell_of(kept), cell_of(row), cell_of(bare), Cell(row.reading, look="words")]
            lines.append(Line(mark + Markup("{}").format(method_title(row.method)), cells))
        if lines:
            groups.append(LineGroup(lines, named(network)))
    headings = ["Fill", "Accuracy minus layer masking's (points)", "Reliance minus layer masking's"]
    headings += [f"Reliance minus that of “{baseline.title}” under the same fill", "Shown"]
    text = prose("pairs_of_the_rule", own=_own_mark(), rule=results.content["rule"])
    return text + table("comparisons", "Pairs behind the verdicts", headings, groups, look="comparisons")


def _own_mark() -> Markup:
    """The mark of the method that an arm was trained for."""
    return html('<span class="mark" role="img" aria-label="own method">●</span>')


def every_arm(results: Results) -> Markup:
    """The used share of every arm under every method, and the manipulation checks."""
    shares = {(row.network, row.method): row for row in select(results.over_seeds, measure=HEADLINE)}
    largest = max((abs(row.value) for row in shares.values() if row.value is not None), default=0.0) or 1.0

    def cell(arm: Mapping[str, Any], name: str, method: str) -> Cell:
        row, is_own = shares.get((name, method)), method == arm["method"]
        found = cell_of(row)
        if is_own:
            found = found._replace(value=_own_mark() + " " + found.value)
        if row is None or row.value is None:
            return found
        look = "heat-cell" + " best" * is_own + " aside" * (not is_fill(method) and not is_own)
        return found._replace(look=look, shade=abs(row.value) / largest)

    lines = [
        Line(named(each), [cell(each.arm, each.name, method) for method in results.methods])
        for each in results.networks
    ]
    label = "Used share of every arm under every masking method"
    headings = ["Training", *map(method_title, results.methods)]
    return prose(
        "every_arm",
        own=_own_mark(),
        shares=table("arm-shares", label, headings, [LineGroup(lines)], look="heat"),
        checks=_manipulation_checks(results),
    )


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
        own: whether it is the method that the arm was trained for.
        retention: accuracy with patches hidden at random, defined.
        used_share: the headline, defined.
    """

    network: Network
    method: int
    own: bool
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
                found.append(Point(network, place, method == network.arm["method"], kept, share))
    return found


def retention_chart(results: Results, points: list[Point]) -> Markup:
    """Retention (x) against used share (y) of every arm under every masking method.

    Under its own method an arm is a large mark with its number and both intervals, under others a small pale mark.
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
        own = sorted(each.retention.value or 0.0 for each in points if each.own)
        for point in points:  # neighbours have their labels on different sides
            is_odd = point.own and own.index(point.retention.value or 0.0) % 2
            _draw_point(axes, point, label_at=(6, -14) if is_odd else (6, 5))

    return draw(paint, "retention", _LABEL, _SIZE)


def reliance_limit(results: Results) -> float | None:
    """Reliance of the layer-masking arm under its own method, plus the margin; None where it is not known."""
    rule = results.content["rule"]
    arm = results.network(rule["layer_masking_arm"])
    share = only(results.over_seeds, measure=HEADLINE, network=arm.name, method=arm.arm["method"])
    return None if share is None or share.value is None else abs(share.value) + float(rule["margin"])


def _draw_point(axes: Axes, point: Point, label_at: tuple[int, int]) -> None:
    x, y = point.retention.value or 0.0, point.used_share.value or 0.0
    colour, mark = colour_of(point.network.colour), _MARKERS[point.method % len(_MARKERS)]
    if not point.own:
        axes.plot([x], [y], marker=mark, color=colour, markersize=5.5, markeredgewidth=0, alpha=0.6, zorder=2)
        return
    for row, horizontal in ((point.retention, True), (point.used_share, False)):
        if row.low is not None and row.high is not None:
            ends = [row.low, row.high]
            axes.plot(*((ends, [y, y]) if horizontal else ([x, x], ends)), color=colour, linewidth=1.6, alpha=0.5)
    axes.plot([x], [y], marker=mark, color=colour, markersize=9, markeredgewidth=0, zorder=3)
    axes.annotate(
        str(point.network.number), (x, y), xytext=label_at, textcoords="offset points", fontsize="medium", color=colour,
        fontweight="bold", zorder=4,
    )  # fmt: skip
