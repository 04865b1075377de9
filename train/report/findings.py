"""The finding of a command in one sentence with its size: first on its page, last in the terminal."""

from collections.abc import Sequence
from typing import NamedTuple

from maskrobust.lm_modules.methods import is_fill
from maskrobust.lm_modules.reliance.catalogue import HEADLINE, OUTLINE_PULL
from maskrobust.lm_modules.reliance.measures.accuracy import NEARLY_ONE
from maskrobust.lm_modules.reliance.plan import ABOUT_CRUDE_MASKS
from maskrobust.lm_modules.reliance.results import Row, select
from maskrobust.train.report.results import Network, Results, meaningless_because
from maskrobust.train.report.wording import (
    capitalised,
    compact,
    decimal,
    hundredths,
    in_sentence,
    in_words,
    interval,
    listed,
    method_title,
    percent,
    percents,
    points,
    under,
)

LITTLE = 0.1
"""Used share below which reliance on outlines is little: a tenth of what outlines tell."""

_KEPT = 0.05
"""Accuracy that a network may lose to hidden patches and still be said to keep it."""

_GIVEN_AWAY = "The outline of a hole gives the object away: "

USED_SHARE = (
    "Used share: how much accuracy the outline adds over a circle, as a fraction of what it adds for a network that "
    "sees nothing but outlines (0: nothing, 1: as much)"
)

_MOST_NAMED = 3
"""Views that a sentence names one by one; of more, the lowest and the highest."""


class View(NamedTuple):
    """A network under a masking method, as a first look takes them."""

    network: Network
    method: str


def views(results: Results) -> list[View]:
    """Networks and masking methods of a first look.

    Where several networks are compared, one that was trained with holes is looked at as it was trained. Any other is
    looked at under a fill, the first under which it relies on outlines or gives one answer, and under layer masking.
    """
    found = []
    for network in results.networks:
        own = results.own_method(network) if len(results.networks) > 1 else None
        found += [View(network, each) for each in ([own] if own else _contrasted(results, network))]
    return found


def _contrasted(results: Results, network: Network) -> list[str]:
    fills = [each for each in results.methods if is_fill(each)]
    others = [each for each in results.methods if not is_fill(each)]
    telling = [
        each for each in fills if relies(results, View(network, each)) or _collapse(results, View(network, each))
    ]
    return [*(telling or fills)[:1], *others[:1]]


def row_of(results: Results, view: View, measure: str, hidden: float = 0.5) -> Row | None:
    """The row of a measure, of its member nearest to a hidden fraction; None where there is none with a value."""
    rows = select(results.over_seeds, network=view.network.name, method=view.method, measure=measure)
    defined = [row for row in rows if row.value is not None]
    return min(
        defined, key=lambda row: abs(float(row.parameters.get("hidden_fraction", hidden)) - hidden), default=None
    )


def relies(results: Results, view: View) -> bool:
    """Whether the interval of the used share lies on one side of 0."""
    share = row_of(results, view, HEADLINE)
    return share is not None and share.reading == "relies on outlines"


def accuracies_compared(results: Results) -> tuple[View, View, Row] | None:
    """The two views of an evaluation's first sentence, with the first one's accuracy; None unless it has just two."""
    shown, measure, hidden = _told_by(results)
    rows = [row for view in shown if (row := row_of(results, view, measure, hidden))]
    return (shown[0], shown[1], rows[0]) if len(rows) == len(shown) == 2 else None


def in_evaluation(results: Results) -> str:
    """The news of an evaluation.

    In order of precedence: networks at chance with nothing hidden; one class predicted for nearly all images with a
    hole; accuracy with the object cut out along its outline, and whether that means reliance; the pull of holes in
    empty scenes; accuracy with patches hidden.
    """
    shown, measure, _ = _told_by(results)
    if not shown:
        return _nothing_learned(results)
    if commonest := _first_collapse(results, shown):
        return _collapsed(results, shown, commonest)
    if measure == "silhouette_accuracy":
        return _behind_outlines(results, shown)
    return _behind_patches(results, shown) if measure else _pulled(results, shown)


def _told_by(results: Results) -> tuple[list[View], str, float]:
    """The views of the news of an evaluation, the accuracy that tells it, and with which fraction of patches hidden.

    The accuracy is "" where outline pulls tell it.
    """
    shown = _better_than_chance(results)
    if commonest := _first_collapse(results, shown):
        of_network = [view for view in shown if view.network.name == commonest.network]
        return of_network, "retention", float(commonest.parameters["hidden_fraction"])
    if any(row_of(results, view, "silhouette_accuracy") for view in shown):
        return shown, "silhouette_accuracy", 0.5
    return shown, "" if _pulled(results, shown) else "retention", 0.5


def _first_collapse(results: Results, shown: Sequence[View]) -> Row | None:
    return next(filter(None, (_collapse(results, view) for view in shown)), None)


def _better_than_chance(results: Results) -> list[View]:
    return [view for view in views(results) if not _at_chance(results, view.network)]


def besides(results: Results) -> list[str]:
    """What a reader of the first sentence of an evaluation has to know, too."""
    pulled = _pulled(results, _better_than_chance(results))
    shares = _shares(results) or [pulled] * bool(pulled)
    about = [*_some_at_chance(results), *_meaningless(results), *_without_objects(results), *_about_crude(results)]
    return [*_difference(results), *shares, *_nearest(results), *about]


def who(results: Results, network: Network) -> str:
    """A network by its training, where that tells all networks apart; else by its name."""
    own = [results.own_method(each) for each in results.networks]
    trained = [
        each and ("on painted holes" if is_fill(each) else f"with {in_sentence(method_title(each))}") for each in own
    ]
    told_apart = len(set(trained)) == len(trained) > 1 and all(trained)
    return f"the network trained {trained[network.number - 1]}" if told_apart else network.title


def _at_chance(results: Results, network: Network) -> str:
    rows = select(results.over_seeds, network=network.name, measure="clean_accuracy")
    return next(filter(None, map(meaningless_because, rows)), "")


def _nothing_learned(results: Results) -> str:
    first = results.networks[0]
    if len(results.networks) > 1:
        return "All networks are at chance with nothing hidden, so what they answer behind holes means nothing."
    return f"{first.title} is at chance: {_at_chance(results, first)}; what it answers behind holes means nothing."


def _collapse(results: Results, view: View) -> Row | None:
    """The class that nearly all images with patches hidden are taken for; None where it is not so, or always so."""
    rows = [row_of(results, each, "commonest_class") for each in (view, view._replace(method=""))]
    nearly_all = [row is not None and (row.value or 0.0) >= NEARLY_ONE for row in rows]
    return rows[0] if nearly_all == [True, False] else None


def _collapsed(results: Results, shown: Sequence[View], commonest: Row) -> str:
    fraction = float(commonest.parameters["hidden_fraction"])
    whole = round(commonest.value or 0.0, 3) == 1.0
    images = "every image" if whole else f"{percents(commonest.value or 0.0)} of the images"
    named = f"{who(results, shown[0].network)} calls {images} “{commonest.parameters['class']}”"
    found = _accuracies(results, shown, "retention", subject="it", hidden=fraction)
    return f"With {in_words(fraction)} of the patches hidden {under(commonest.method)}, {named}: {found}."


def _behind_patches(results: Results, shown: Sequence[View]) -> str:
    rows = [row for view in shown if (row := row_of(results, view, "retention"))]
    if not rows:
        return f"Nothing was hidden: {_accuracies(results, shown, 'clean_accuracy')}."
    fraction = float(rows[0].parameters["hidden_fraction"])
    return f"With {in_words(fraction)} of the patches hidden, {_accuracies(results, shown, 'retention')}."


def _behind_outlines(results: Results, shown: Sequence[View]) -> str:
    verdict = _reliance(results, shown)
    found = _accuracies(results, shown, "silhouette_accuracy", still=verdict is None)
    told = f"{_GIVEN_AWAY if verdict is None else verdict}with the object cut out along its outline, {found}"
    return f"{capitalised(told)}{_although_kept(results, shown)}."


def _reliance(results: Results, shown: Sequence[View]) -> str | None:
    """What used shares say of all views, ahead of their accuracies; None where outlines plainly help."""
    shares = [share for view in shown if (share := row_of(results, view, HEADLINE)) and not meaningless_because(share)]
    relying = [share.value or 0.0 for share in shares if share.reading == "relies on outlines"]
    if not shares:
        return ""
    if not relying:
        largest = max(abs(end) for share in shares for end in (share.low, share.high) if end is not None)
        if largest < LITTLE:
            return f"No reliance on outlines (used share within ±{decimal(largest)}): "
        return f"Undecided whether outlines matter (used share up to ±{decimal(largest)}): "
    strongest = max(relying, key=abs)
    if abs(strongest) < LITTLE:
        return f"Little reliance on outlines (used share {decimal(strongest)}): "
    return "Outlines mislead: " if strongest < 0.0 else None


def _although_kept(results: Results, shown: Sequence[View]) -> str:
    """Say that a network loses no accuracy to hidden patches, although it relies on outlines."""
    view = next((each for each in shown if relies(results, each)), None)
    if view is None or len({each.network.name for each in shown}) > 1:
        return ""
    kept, whole = (row_of(results, view, measure) for measure in ("retention", "clean_accuracy"))
    if kept is None or whole is None or (kept.value or 0.0) < (whole.value or 0.0) - _KEPT:
        return ""
    hidden = in_words(float(kept.parameters["hidden_fraction"]))
    return f"; it keeps its accuracy with {hidden} of the patches hidden ({percents(kept.value or 0.0)})"


def _accuracies(
    results: Results,
    shown: Sequence[View],
    measure: str,
    *,
    still: bool = False,
    subject: str = "",
    hidden: float = 0.5,
) -> str:
    """As in "a is right in 46 % of the images under black fill (chance: 25 %), in 26 % under layer masking"."""
    verb = f"is{' still' * still} right in" if results.has_labels else "predicts the same as with nothing hidden in"
    rows = [(view, row) for view in shown if (row := row_of(results, view, measure, hidden))]
    found, counted = [(view, row.value or 0.0) for view, row in rows], [row.images for _, row in rows]
    if len(found) > _MOST_NAMED:
        ends = [choose(found, key=lambda each: each[1]) for choose in (min, max)]
        low, high = (f"{percents(value)} ({view.network.title} {under(view.method)})" for view, value in ends)
        what = (
            "accuracy" if results.has_labels else "the fraction of predictions that are the same as with nothing hidden"
        )
        return f"{what} over {max(counted):,} images is between {low} and {high}"
    several = len({view.network.name for view, _ in found}) > 1
    as_trained = several and all(results.own_method(view.network) == view.method for view, _ in found)
    text = ""
    for place, (view, value) in enumerate(found):
        is_new = place == 0 or view.network != found[place - 1][0].network
        name = f"{subject if subject and place == 0 else who(results, view.network)} " * is_new
        method = "" if as_trained else f" {under(view.method)}"
        images = f"{verb} {percents(value)} of {counted[place]:,} images" if place == 0 else f"in {percents(value)}"
        gap = "" if place == 0 else "; " if is_new else ", "
        text += f"{gap}{name}{images}{method}{_reference(results, view, measure, is_first=place == 0)}"
    return text


def _reference(results: Results, view: View, measure: str, *, is_first: bool = True) -> str:
    """What an accuracy is to be seen beside: behind an outline chance, where a circle leaves that, or the circle's."""
    if measure == "retention":
        whole = row_of(results, view, "clean_accuracy")
        return f" ({percents(whole.value or 0.0)} with nothing hidden)" if whole and is_first else ""
    circle, chance = row_of(results, view, "circle_accuracy"), results.content["chance"]
    if circle is None or measure != "silhouette_accuracy":
        return ""
    if chance is not None and (circle.low or 0.0) <= chance <= (circle.high or 0.0):
        return f" (chance: {percents(chance)})" * is_first
    return f" ({percents(circle.value or 0.0)} behind a circle)"


def _pulled(results: Results, shown: Sequence[View]) -> str:
    """The outline pulls, where accuracies behind outlines were not measured; empty where pulls were not, either."""
    rows = [row for view in shown if (row := row_of(results, view, OUTLINE_PULL))]
    if not rows:
        return ""
    found = [f"{_whose(results, row)}: {compact(row.value or 0.0)}" for row in rows]
    verdict = "a" if any(row.reading == "pulled" for row in rows) else "no evidence that a"
    return capitalised(
        f"{verdict} hole in an empty scene pulls towards the object of its shape (logits; {listed(found)})."
    )


def _whose(results: Results, row: Row) -> str:
    network = results.network(row.network)
    name = who(results, network)
    return f"{name}{', tested' * (name != network.title)} {under(row.method)}"


def _shares(results: Results) -> list[str]:
    """Used shares of the views, with intervals, and what they mean."""
    rows = [row for view in views(results) if (row := row_of(results, view, HEADLINE)) and not meaningless_because(row)]
    found = [
        f"{decimal(row.value or 0.0)} {interval(row.low, row.high, decimal)} for {_whose(results, row)}" for row in rows
    ]
    return [f"{USED_SHARE}. It is {listed(found)}."] if found else []


def _nearest(results: Results) -> list[str]:
    """How often the nearest clean picture is the picture's own, for the views; none where that was not asked."""
    rows = [row for view in views(results) if (row := row_of(results, view, "nearest"))]
    if not rows:
        return []
    found = [f"{percents(row.value or 0.0)} {interval(row.low, row.high, percent)}" for row in rows]
    told = listed([f"{each} for {_whose(results, row)}" for each, row in zip(found, rows, strict=True)])
    hidden, images = in_words(float(rows[0].parameters["hidden_fraction"])), rows[0].images
    return [
        f"With {hidden} of the patches hidden, the nearest of {images:,} clean pictures, by the network's features, is "
        f"the picture's own in {told} (chance: {percents(1 / images)})."
    ]


def _difference(results: Results) -> list[str]:
    """By how much the two views of the first sentence differ in its accuracy."""
    found = results.content.get("difference")
    if found is None:
        return []
    ends = interval(found["low"], found["high"], hundredths)
    numbers = "accuracies" if results.has_labels else "fractions"
    return [f"The two {numbers} of the headline differ by {points(found['value'])} {ends}, paired by image."]


def _some_at_chance(results: Results) -> list[str]:
    return [
        f"{each.title} is at chance, so only its accuracy means anything, and no verdict compares it: {reason}."
        for each in results.networks
        if (reason := _at_chance(results, each)) and len(results.networks) > 1
    ]


def _meaningless(results: Results) -> list[str]:
    """Say for which other networks and masking methods the used share means nothing, and why."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in select(results.over_seeds, measure=HEADLINE):
        network = results.network(row.network)
        if (reason := meaningless_because(row)) and not _at_chance(results, network):
            found.setdefault((network.title, reason), []).append(in_sentence(method_title(row.method)))
    return [
        f"The used share of {title} means nothing under {listed(methods)}: {reason}."
        for (title, reason), methods in found.items()
    ]


def _without_objects(results: Results) -> list[str]:
    measured = any(select(results.over_seeds, measure=measure) for measure in (HEADLINE, OUTLINE_PULL))
    return (
        [] if measured else ["Whether outlines of holes give an object away was not measured: that needs object masks."]
    )


def _about_crude(results: Results) -> list[str]:
    """Say that numbers about objects and outlines are about crude masks, if they are."""
    masks = results.content["settings"].get("crude_masks")
    return [f"Crude: {ABOUT_CRUDE_MASKS.format(masks=masks)}"] if masks else []
