"""The report section on curves: how accuracy falls as more of the image is hidden."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from maskrobust.lm_modules.reliance.results import Row, select
from maskrobust.train.report.blocks import page_part
from maskrobust.train.report.results import Network, Results
from maskrobust.train.report.wording import family_title, method_title

_ORDERS = {"random": "random order", "most_salient": "object hidden first", "least_salient": "background hidden first"}


class Curve(NamedTuple):
    """One line of a chart.

    Attributes:
        network: whose line it is.
        rows: its points, in the order of their hidden fractions.
        label_at: hidden fraction and accuracy where its number stands, apart from those of the other lines.
    """

    network: Network
    rows: Sequence[Row]
    label_at: tuple[float, float]


def curves(results: Results) -> Markup | None:
    """The arms of a claim under their own methods, or networks under each method; None where there is no curve."""
    rows = select(results.defined, measure="curve_accuracy")
    if results.name == "claim":
        own = [row for row in rows if row.method == results.own_method(results.network(row.network))]
        groups = {"Every arm under the masking method stated for it": own}
    else:
        groups = {method_title(method): select(rows, method=method) for method in results.methods}
    charts = {title: _charts(results, of_group) for title, of_group in groups.items() if of_group}
    return page_part("curves.html", groups=charts, networks=results.networks) if charts else None


def _charts(results: Results, rows: Sequence[Row]) -> dict[str, list[Curve]]:
    """The lines of every chart, by its title, as in "SLIC, object hidden first"."""
    found: dict[str, list[Curve]] = {}
    for family in dict.fromkeys(str(row.parameters["family"]) for row in rows):
        for order, words in _ORDERS.items():
            about = {"family": family, "order": order}
            of_chart = [row for row in rows if about.items() <= row.parameters.items()]
            drawn = [each for each in results.networks if select(of_chart, network=each.name)]
            for place, network in enumerate(drawn):
                points = sorted(select(of_chart, network=network.name), key=_hidden)
                x, y = [_hidden(row) for row in points], [row.value or 0.0 for row in points]
                at = x[0] + (0.04 + 0.92 * (place + 0.5) / len(drawn)) * (x[-1] - x[0])
                curve = Curve(network, points, (at, float(np.interp(at, x, y))))
                found.setdefault(f"{family_title(family)}, {words}", []).append(curve)
    return found


def _hidden(row: Row) -> float:
    return float(row.parameters["hidden_fraction"])
