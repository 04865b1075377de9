"""The report section on curves: how accuracy falls as more of the image is hidden."""

from collections.abc import Sequence

from markupsafe import Markup

from maskrobust.lm_modules.reliance.results import Row, select
from maskrobust.train.report.blocks import page_part
from maskrobust.train.report.chart import Line, Point, chart_lines
from maskrobust.train.report.results import Results
from maskrobust.train.report.wording import family_title, method_title

_ORDERS = {"random": "random order", "most_salient": "object hidden first", "least_salient": "background hidden first"}
_QUARTERS = (0, 0.25, 0.5, 0.75, 1)


def curves(results: Results) -> Markup | None:
    """The arms of a claim under their own methods, or networks under each method; None where there is no curve."""
    rows = select(results.defined, measure="curve_accuracy")
    if results.name == "claim":
        own = [row for row in rows if row.method == results.own_method(results.network(row.network))]
        groups = {"Every arm under the masking method stated for it": own}
    else:
        groups = {method_title(method): select(rows, method=method) for method in results.methods}
    charts = {title: _charts(results, of_group) for title, of_group in groups.items() if of_group}
    return page_part("curves.html", groups=charts, networks=results.networks, quarters=_QUARTERS) if charts else None


def _charts(results: Results, rows: Sequence[Row]) -> dict[str, list[Line]]:
    """The lines of every chart, by its title, as in "SLIC, object hidden first"."""
    found: dict[str, list[Line]] = {}
    for family in dict.fromkeys(str(row.parameters["family"]) for row in rows):
        for order, words in _ORDERS.items():
            about = {"family": family, "order": order}
            of_chart = [row for row in rows if about.items() <= row.parameters.items()]
            points = [
                (network, [Point(float(row.parameters["hidden_fraction"]), row) for row in of_network])
                for network in results.networks
                if (of_network := select(of_chart, network=network.name))
            ]
            if points:
                found[f"{family_title(family)}, {words}"] = chart_lines(points)
    return found
