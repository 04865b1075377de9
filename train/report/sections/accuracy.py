"""Report sections on accuracy: by hidden fraction, by class, along curves and by mask family."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from maskrobust.lm_modules.reliance.catalogue import catalogue
from maskrobust.lm_modules.reliance.measures.accuracy import HIDE_THE_OBJECT, worst_cell
from maskrobust.lm_modules.reliance.results import Row, only, select
from maskrobust.train.report.blocks import Cell, Line, LineGroup, folded, html, legend, named, panels, prose, table
from maskrobust.train.report.charts import Curve, line_chart
from maskrobust.train.report.results import Network, Results
from maskrobust.train.report.tables import cell_of, titled
from maskrobust.train.report.wording import family_title, in_sentence, method_title, percent

_MOST_CLASSES = 20
"""Largest number of classes whose table is shown unfolded."""


def accuracy_of_classes(results: Results) -> Markup | None:
    """A table for each network: classes by what is hidden, folded where there are many; None where there is none."""
    rows = select(results.over_seeds, measure="class_accuracy")
    classes = list(dict.fromkeys(str(row.parameters["class"]) for row in rows))
    if not rows:
        return None
    hidden = max(float(row.parameters["hidden_fraction"]) for row in rows)
    of_hidden = f"{percent(hidden).replace('.0', '')} hidden"
    text = prose("accuracy_of_classes", hidden=hidden)
    for network in results.networks:
        own = {(row.parameters["class"], row.method): row for row in select(rows, network=network.name)}
        methods = ["", *(results.methods if hidden else ())]
        lines = [
            Line(f"{each} ({own[each, ''].images:,} images)", [cell_of(own.get((each, method))) for method in methods])
            for each in classes
            if (each, "") in own
        ]
        if not lines:
            continue
        headings = [
            "Class",
            "Nothing hidden",
            *(f"{of_hidden}, {in_sentence(method_title(each))}" for each in methods[1:]),
        ]
        shown = table(f"classes-{network.number}", f"Classes, {network.title}", headings, [LineGroup(lines)])
        text += folded(titled(results, network), shown, is_open=len(classes) <= _MOST_CLASSES)
    return text


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
    rows = [row for row in results.over_seeds if catalogue()[row.measure].group == "curves"]
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
    points = [
        row
        for row in select(rows, measure="curve_accuracy")
        if (row.parameters["family"], row.parameters["order"]) == panel
    ]
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


TRAINED = Markup('<span class="mark trained" role="img" aria-label="trained on">●</span> ')
WORST = Markup('<span class="mark worst" role="img" aria-label="lowest accuracy">▼</span> ')


def transfer(results: Results) -> Markup | None:
    """The transfer matrix of every network, below its lowest accuracy; None if there is none."""
    found = [(each, rows) for each in results.networks if (rows := _cells(results, each))]
    if not found:
        return None
    text = prose("transfer", trained=TRAINED if results.name == "claim" else "", worst=WORST)
    for place, (each, rows) in enumerate(found):
        worst = cell_of(worst_cell(rows))
        title = named(each) + Markup(": lowest {} {}").format(worst.value, worst.interval)
        matrix = _matrix(f"transfer-{each.number}", each.title, rows, each.arm.get("trained_on"))
        text += folded(title, matrix, is_open=place < 2)
    return text


def _cells(results: Results, network: Network) -> list[Row]:
    rows = select(results.over_seeds, network=network.name)
    return select(rows, measure="transfer_accuracy")


def _matrix(identity: str, title: str, rows: Sequence[Row], trained_on: Mapping[str, Any] | None) -> Markup:
    lowest = _tied(rows, worst_cell(rows))
    families = list(dict.fromkeys(str(row.parameters["family"]) for row in rows))

    def heat(method: str, family: str) -> Cell:
        row = only(rows, method=method, parameters={"family": family})
        cell = cell_of(row, sign=False)
        if row is None or row.value is None:
            return cell
        is_trained = trained_on is not None and method in trained_on["fills"] and family in trained_on["families"]
        is_worst = row in lowest
        marks = TRAINED * is_trained + WORST * is_worst
        look = "heat-cell" + " trained" * is_trained + " worst" * is_worst
        return cell._replace(value=marks + cell.value, look=look, shade=row.value)

    lines = [
        Line(method_title(method), [heat(method, family) for family in families])
        for method in dict.fromkeys(row.method for row in rows)
    ]
    headings = ["Accuracy in percent", *map(family_title, families)]
    return table(identity, title, headings, [LineGroup(lines)], look="heat")


def _tied(rows: Sequence[Row], worst: Row | None) -> list[Row]:
    """The cells with the accuracy of the worst one, of those that count."""
    if worst is None:
        return []
    return [row for row in rows if row.value == worst.value and row.parameters["family"] not in HIDE_THE_OBJECT]
