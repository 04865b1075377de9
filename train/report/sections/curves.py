"""The report section on curves: how accuracy falls as more of the image is hidden."""

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from maskrobust.lm_modules.reliance.results import Row, select
from maskrobust.train.report.blocks import folded, html, legend, panels, prose
from maskrobust.train.report.charts import Curve, line_chart
from maskrobust.train.report.results import Network, Results
from maskrobust.train.report.wording import family_title, method_title

_ORDERS = {
    "random": "random order",
    "most_salient": "object hidden first",
    "least_salient": "background hidden first",
}


class Panel(NamedTuple):
    """One curve: the family of the segments that are hidden, and the order in which they are hidden."""

    family: str
    order: str

    @property
    def title(self) -> str:
        """As in "SLIC, object hidden first"."""
        return f"{family_title(self.family)}, {_ORDERS[self.order]}"


def curves(results: Results) -> Markup | None:
    """The arms of a claim under their own methods, or networks under each method; None where there is no curve."""
    rows = select(results.over_seeds, measure="curve_accuracy")
    if not rows:
        return None
    if results.name == "claim":
        own = [row for row in rows if row.method == results.network(row.network).arm["method"]]
        return _curves(results, own, "curves")
    drawn = [
        (method_title(method), _curves(results, found, f"curves-{method}"))
        for method in results.methods
        if (found := select(rows, method=method))
    ]
    (title, first), *others = drawn
    return html("<h3>{{ title }}</h3>{{ first }}", title=title, first=first) + Markup().join(
        folded(title, each) for title, each in others
    )


def _curves(results: Results, rows: Sequence[Row], identity: str) -> Markup:
    places = dict.fromkeys(Panel(str(row.parameters["family"]), str(row.parameters["order"])) for row in rows)
    families, orders = (list(dict.fromkeys(each)) for each in zip(*places, strict=True))
    shown = sorted(places, key=lambda panel: (families.index(panel.family), orders.index(panel.order)))
    networks = [each for each in results.networks if select(rows, network=each.name)]
    charts = [_chart(results, rows, networks, panel, f"{identity}-{place}") for place, panel in enumerate(shown)]
    caption = prose("curves_caption", legend=legend(results.networks), is_claim=results.name == "claim")
    return panels(charts, caption)


def _chart(results: Results, rows: Sequence[Row], networks: Sequence[Network], panel: Panel, identity: str) -> Markup:
    points = [row for row in rows if (row.parameters["family"], row.parameters["order"]) == panel]
    drawn = [
        Curve.of(
            select(points, network=each.name),
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
