"""Retention curves: accuracy drawn as small multiples, one panel for each curve, and the scores of every metric."""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from maskrobust.lm_modules.reliance.catalogue import catalogue
from maskrobust.lm_modules.reliance.results import Row, only, select
from maskrobust.train.report.blocks import Line, LineGroup, folded, html, legend, named, panels, prose, table
from maskrobust.train.report.charts import Curve, line_chart
from maskrobust.train.report.results import Network, Results
from maskrobust.train.report.tables import cell_of
from maskrobust.train.report.wording import family_title, method_title


class Panel(NamedTuple):
    """One curve: the family of the segments that are hidden, and the order in which they are hidden."""

    family: str
    order: str

    @property
    def title(self) -> str:
        """As in "SLIC, most salient first"."""
        order = self.order.replace("_", " ")
        return f"{family_title(self.family)}, {order if order == 'random' else f'{order} first'}"


def curves(results: Results) -> Markup | None:
    """The arms of a claim under their own methods, or networks under each method; None where there is no curve."""
    rows = [row for row in results.over_seeds if catalogue()[row.measure].group == "curves"]
    if not rows:
        return None
    if results.name == "claim":
        own = [row for row in rows if row.method == results.network(row.network).arm["method"]]
        return _curves(results, own, "curves", "")
    drawn = [
        (method_title(method), _curves(results, found, f"curves-{method}", method_title(method)))
        for method in results.methods
        if (found := select(rows, method=method))
    ]
    (title, first), *others = drawn
    return html("<h3>{{ title }}</h3>{{ first }}", title=title, first=first) + Markup().join(
        folded(title, each) for title, each in others
    )


def _curves(results: Results, rows: Sequence[Row], identity: str, title: str) -> Markup:
    places = dict.fromkeys(Panel(str(row.parameters["family"]), str(row.parameters["order"])) for row in rows)
    families, orders = (list(dict.fromkeys(each)) for each in zip(*places, strict=True))
    shown = sorted(places, key=lambda panel: (families.index(panel.family), orders.index(panel.order)))
    networks = [each for each in results.networks if select(rows, network=each.name)]
    charts = [_chart(results, rows, networks, panel, f"{identity}-{place}") for place, panel in enumerate(shown)]
    caption = prose("curves_caption", legend=legend(results.networks), is_claim=results.name == "claim")
    scores = [row for row in rows if "hidden_fraction" not in row.parameters]
    tables = [
        html("<h4>{{ title }}</h4>", title=catalogue()[measure].title)
        + table(
            f"{identity}-{measure.removesuffix('_score')}",
            catalogue()[measure].title,
            ["Network" if results.name == "reliance" else "Arm", *(panel.title for panel in shown)],
            [LineGroup([_line(select(scores, measure=measure, network=each.name), each, shown) for each in networks])],
        )
        for measure in dict.fromkeys(row.measure for row in scores)
    ]
    summary = f"Scores of every curve{f', {title.lower()}' if title else ''}"
    about = html("<p>The mean over the curve, for every metric.</p>")
    return panels(charts, caption) + folded(summary, about + Markup().join(tables))


def _line(rows: Sequence[Row], network: Network, shown: Sequence[Panel]) -> Line:
    return Line(named(network), [cell_of(only(rows, parameters=panel._asdict())) for panel in shown])


def _chart(results: Results, rows: Sequence[Row], networks: Sequence[Network], panel: Panel, identity: str) -> Markup:
    points = [
        row
        for row in select(rows, measure="curve_accuracy")
        if (row.parameters["family"], row.parameters["order"]) == panel
    ]
    drawn = [
        Curve.of(
            select(points, network=each.name),
            "hidden_fraction",
            each.colour,
            str(each.number),
            strong=not each.arm or results.is_in_the_rule(each),
        )
        for each in networks
    ]
    return line_chart(
        drawn,
        identity,
        panel.title,
        "Hidden fraction of the image (%)",
        "Accuracy (%)",
        label="Chart: accuracy against the hidden fraction of the image",
    )
