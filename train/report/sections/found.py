"""The first screen of an evaluation's report: its finding, one image as the networks see it, and one chart."""

from collections.abc import Sequence

from markupsafe import Markup

from maskrobust.lm_modules.methods import is_fill
from maskrobust.train.report.blocks import Cell, Line, LineGroup, block, named, prose, table
from maskrobust.train.report.examples import ExampleStrip, Prediction
from maskrobust.train.report.findings import View, besides, in_evaluation, relies, row_of, views
from maskrobust.train.report.results import COLOURS, Results
from maskrobust.train.report.tables import cell_of
from maskrobust.train.report.wording import capitalised, in_sentence, in_words, method_title

_HOLES = {
    "silhouette_accuracy": "Object cut out along its outline",
    "circle_accuracy": "Object hidden by a circle around it",
}


def found(results: Results, shown: Sequence[ExampleStrip]) -> Markup:
    """What stands above all sections of an evaluation."""
    looked_at = views(results)
    return prose(
        "found",
        sentence=in_evaluation(results),
        besides=besides(results),
        left_out=results.content["settings"]["left_out"],
        tiles=_tiles(results, looked_at, shown),
        chart=_chart(results, looked_at),
        masked=not all(is_fill(view.method) for view in looked_at),
        has_objects=any(row_of(results, view, "silhouette_accuracy") for view in looked_at),
        has_labels=results.has_labels,
        chance=results.content["chance"],
    )


def _chart(results: Results, looked_at: Sequence[View]) -> Markup:
    """Accuracies with intervals as bars from 0 to 100 %, by what is hidden; chance as a dashed line."""
    groups: dict[str, list[Line]] = {}
    chance = results.content["chance"]
    several, by_method = len(results.networks) > 1, len(looked_at) > len(results.networks)

    def add(title: str, view: View, measure: str) -> None:
        row = row_of(results, view, measure)
        if row is None or row.value is None:
            return
        ends = [100.0 * (row.value if end is None else end) for end in (row.low, row.value, row.high)]
        number = 1 if measure == "clean_accuracy" and not several else _colour(results, looked_at, view)
        meter = block("meter", *ends, None if chance is None else 100.0 * chance, number)
        name = _named(results, view, with_method=by_method and measure != "clean_accuracy")
        groups.setdefault(title, []).append(Line(name, [Cell(meter, look="bar-cell"), cell_of(row)]))

    goal = "" if chance is None else " (the nearer to chance, the better)"
    for measure, title in _HOLES.items():
        for view in looked_at:
            add(f"{title}{goal}", view, measure)
    for view in looked_at:
        if row := row_of(results, view, "retention"):
            hidden = in_words(float(row.parameters["hidden_fraction"]))
            add(f"{capitalised(hidden)} of the patches hidden (the higher, the better)", view, "retention")
    for network in results.networks:
        add("Nothing hidden", next(view for view in looked_at if view.network == network), "clean_accuracy")
    counted = "Accuracy" if results.has_labels else "Unchanged"
    return table(
        "found", f"{counted} by what is hidden", ["", "", counted],
        [LineGroup(lines, title) for title, lines in groups.items()], look="meters",
    )  # fmt: skip


def _colour(results: Results, looked_at: Sequence[View], view: View) -> int:
    """Colours tell networks apart; of one network, masking methods."""
    if len(results.networks) > 1:
        return view.network.colour
    return 1 + (1 + [each.method for each in looked_at].index(view.method)) % COLOURS


def _named(results: Results, view: View, *, with_method: bool) -> Markup | str:
    if len(results.networks) == 1:
        return method_title(view.method) if with_method else view.network.title
    return named(view.network) + (f", tested under {in_sentence(method_title(view.method))}" if with_method else "")


def _tiles(results: Results, looked_at: Sequence[View], shown: Sequence[ExampleStrip]) -> list[Markup]:
    """One image as it is, and with its object (without objects: patches) hidden under each view, with predictions."""
    conditions = {strip.condition for strip in shown}
    condition = "silhouette" if "silhouette" in conditions else next(iter(conditions - {"clean"}), "")
    by_method = {strip.method: strip for strip in shown if strip.condition == condition and strip.images}
    strips = [(view, by_method[view.method]) for view in looked_at if view.method in by_method]
    original = next((strip for strip in shown if strip.method is None and strip.images), None)
    if original is None or not strips:
        return []

    def telling(place: int) -> int:
        return sum(
            answer.right == (relies(results, view) if condition == "silhouette" else not is_fill(view.method))
            for view, strip in strips
            if (answer := _answer(strip, view, place)) is not None
        )

    place = max(range(len(original.images)), key=telling)
    tiles = [
        block("tile", original.images[place], "", "As it is", None, original.classes[place] if original.classes else "")
    ]
    for view, strip in strips:
        name = _named(results, view, with_method=True)
        tiles.append(block("tile", strip.images[place], strip.label, name, _answer(strip, view, place), ""))
    return tiles


def _answer(strip: ExampleStrip, view: View, place: int) -> Prediction | None:
    answers = strip.answers[place] if strip.answers else ()
    return next((each for each in answers if view.network.number in each.networks), None)
