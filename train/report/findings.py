"""What was found, in one sentence with its size: a page's first line, and the last one of its command in a terminal."""

from collections.abc import Sequence
from typing import NamedTuple

from maskrobust.lm_modules.methods import is_fill
from maskrobust.lm_modules.reliance.catalogue import HEADLINE, OUTLINE_PULL
from maskrobust.lm_modules.reliance.measures.accuracy import NEARLY_ONE
from maskrobust.lm_modules.reliance.plan import ABOUT_CRUDE_MASKS
from maskrobust.lm_modules.reliance.results import Row, select
from maskrobust.train.report.results import Network, Results, meaningless_because
from maskrobust.train.report.wording import (
    PERCENT,
    capitalised,
    compact,
    decimal,
    in_sentence,
    in_words,
    interval,
    listed,
    method_title,
)

LITTLE = 0.1
"""Used share below which reliance on outlines is little: a tenth of what outlines tell."""

_KEPT = 0.05
"""Accuracy that a network may lose to hidden patches and still be said to keep it."""

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


def row_of(results: Results, view: View, measure: str) -> Row | None:
    """The row of a measure, of its member nearest to half hidden; None where there is none with a value."""
    rows = select(results.over_seeds, network=view.network.name, method=view.method, measure=measure)
    defined = [row for row in rows if row.value is not None]
    return min(defined, key=lambda row: abs(float(row.parameters.get("hidden_fraction", 0.5)) - 0.5), default=None)


def relies(results: Results, view: View) -> bool:
    """Whether the interval of the used share lies on one side of 0."""
    share = row_of(results, view, HEADLINE)
    return share is not None and share.reading == "relies on outlines"


def in_evaluation(results: Results) -> str:
    """The news of an evaluation.

    In order of precedence: networks at chance with nothing hidden; one class predicted for nearly all images with a
    hole; accuracy with the object hidden along its outline, and whether that means reliance; the pull of holes in empty
    scenes; accuracy with patches hidden.
    """
    shown = [view for view in views(results) if not _at_chance(results, view.network)]
    if not shown:
        return _nothing_learned(results)
    for view in shown:
        if collapse := _collapse(results, view):
            return _collapsed(results, [each for each in shown if each.network == view.network], collapse)
    if any(row_of(results, view, "silhouette_accuracy") for view in shown):
        return _behind_outlines(results, shown)
    if _has(results, OUTLINE_PULL):
        return _pulled(results, shown)
    return _behind_patches(results, shown)


def besides(results: Results) -> list[str]:
    """What a reader of the first sentence of an evaluation has to know, too."""
    pulls = (
        [_pulled(results, views(results))] if not (shares := _shares(results)) and _has(results, OUTLINE_PULL) else []
    )
    about = [*_some_at_chance(results), *_meaningless(results), *_without_objects(results), *_about_crude(results)]
    return [*shares, *pulls, *about]


def percents(value: float) -> str:
    """A fraction in [0, 1] within a sentence, with at most three digits, as in "46.1 %" and "50 %"."""
    return f"{100 * value:.3g}{PERCENT}"


def who(results: Results, network: Network) -> str:
    """A network by its training, where that tells all networks apart; else by its name."""
    trained = {each.name: _training(results.own_method(each)) for each in results.networks}
    told_apart = len(set(trained.values())) == len(trained) > 1 and all(trained.values())
    return f"the network {trained[network.name]}" if told_apart else network.title


def _training(own: str | None) -> str:
    if own is None:
        return ""
    return "trained on painted holes" if is_fill(own) else f"trained with {in_sentence(method_title(own))}"


def under(method: str) -> str:
    """As in "under black fill"."""
    return f"under {in_sentence(method_title(method))}"


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
    commonest, whole = (
        row_of(results, view, "commonest_class"),
        row_of(results, view._replace(method=""), "commonest_class"),
    )
    if commonest is None or (commonest.value or 0.0) < NEARLY_ONE:
        return None
    return None if whole is not None and (whole.value or 0.0) >= NEARLY_ONE else commonest


def _collapsed(results: Results, shown: Sequence[View], commonest: Row) -> str:
    fraction = float(commonest.parameters["hidden_fraction"])
    whole = round(commonest.value or 0.0, 3) == 1.0
    images = "every image" if whole else f"{percents(commonest.value or 0.0)} of the images"
    named = f"{who(results, shown[0].network)} calls {images} “{commonest.parameters['class']}”"
    found = _accuracies(results, shown, "retention", subject="it")
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
    told = f"{verdict or ''}with the object hidden along its outline, {found}"
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
    """Of one network that loses no accuracy to hidden patches, but relies on outlines: that it is so."""
    view = next((each for each in shown if relies(results, each)), None)
    if view is None or len({each.network.name for each in shown}) > 1:
        return ""
    kept, whole = (row_of(results, view, measure) for measure in ("retention", "clean_accuracy"))
    if kept is None or whole is None:
        return ""
    if (kept.value or 0.0) < (whole.value or 0.0) - _KEPT:
        return ""
    hidden = in_words(float(kept.parameters["hidden_fraction"]))
    return f"; it keeps its accuracy with {hidden} of the patches hidden ({percents(kept.value or 0.0)})"


def _accuracies(
    results: Results, shown: Sequence[View], measure: str, *, still: bool = False, subject: str = ""
) -> str:
    """As in "a is right in 46 % of the images under black fill (chance: 25 %), in 26 % under layer masking"."""
    has_labels = any(row_of(results, view, "clean_accuracy") for view in shown)
    verb = f"is{' still' * still} right in" if has_labels else "predicts the same as with nothing hidden in"
    found = [(view, row.value or 0.0) for view in shown if (row := row_of(results, view, measure))]
    if len(found) > _MOST_NAMED:
        ends = [choose(found, key=lambda each: each[1]) for choose in (min, max)]
        low, high = (f"{percents(value)} ({view.network.title} {under(view.method)})" for view, value in ends)
        return f"accuracy is between {low} and {high}"
    several = len({view.network.name for view, _ in found}) > 1
    as_trained = several and all(results.own_method(view.network) == view.method for view, _ in found)
    parts: list[str] = []
    for place, (view, value) in enumerate(found):
        is_new = place == 0 or view.network != found[place - 1][0].network
        name = f"{subject if subject and place == 0 else who(results, view.network)} " * is_new
        method = "" if as_trained else f" {under(view.method)}"
        images = f"{verb} {percents(value)} of the images" if place == 0 else f"in {percents(value)}"
        parts.append(f"{name}{images}{method}{_reference(results, view, measure, is_first=place == 0)}")
    return ("; " if several else ", ").join(parts)


def _reference(results: Results, view: View, measure: str, *, is_first: bool = True) -> str:
    """What an accuracy is to be seen beside: behind an outline chance, where a circle leaves that, or the circle's."""
    if measure == "retention":
        whole = row_of(results, view, "clean_accuracy")
        return f" ({percents(whole.value or 0.0)} with nothing hidden)" if whole and is_first else ""
    if measure != "silhouette_accuracy":
        return ""
    circle, chance = row_of(results, view, "circle_accuracy"), results.content.get("chance")
    if circle is None:
        return ""
    if chance is not None and (circle.low or 0.0) <= chance <= (circle.high or 0.0):
        return f" (chance: {percents(chance)})" if is_first else ""
    return f" ({percents(circle.value or 0.0)} behind a circle)"


def _pulled(results: Results, shown: Sequence[View]) -> str:
    """The outline pulls, where accuracies behind outlines were not measured."""
    rows = [(view, row) for view in shown if (row := row_of(results, view, OUTLINE_PULL))]
    found = [
        f"{who(results, view.network)} by {compact(row.value or 0.0)} logits {under(view.method)}" for view, row in rows
    ]
    verdict = "" if any(row.reading == "pulled" for _, row in rows) else "No evidence of a pull: "
    return f"{capitalised(f'{verdict}in empty scenes, a hole pulls towards the object of its shape')}: {listed(found)}."


def _has(results: Results, measure: str) -> bool:
    return any(row_of(results, view, measure) for view in views(results))


def _shares(results: Results) -> list[str]:
    """Used shares of the views, with intervals, and what they mean."""
    rows = [(view, row) for view in views(results) if (row := row_of(results, view, HEADLINE))]
    found = [
        f"{decimal(row.value or 0.0)} {interval(row.low, row.high, decimal)} for {who(results, view.network)} "
        f"{under(view.method)}"
        for view, row in rows
        if not meaningless_because(row)
    ]
    if not found:
        return []
    return [
        "Used share of the outline, 0 where it adds no accuracy and 1 where it adds as much as for a network that sees "
        f"nothing else: {listed(found)}."
    ]


def _some_at_chance(results: Results) -> list[str]:
    at_chance = [(each, reason) for each in results.networks if (reason := _at_chance(results, each))]
    if len(results.networks) == 1:
        return []
    return [
        f"{each.title} is at chance, so only its accuracy means anything, and no verdict compares it: {reason}."
        for each, reason in at_chance
    ]


def _meaningless(results: Results) -> list[str]:
    """Of which other networks, under which masking methods, the used share means nothing, and why."""
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
    if any(select(results.over_seeds, measure=measure) for measure in (HEADLINE, OUTLINE_PULL)):
        return []
    return ["Whether outlines of holes give an object away was not measured: that needs object masks."]


def _about_crude(results: Results) -> list[str]:
    """That numbers about objects and outlines are about crude masks, where they are."""
    masks = results.content["settings"].get("crude_masks")
    return [f"Crude: {ABOUT_CRUDE_MASKS.format(masks=masks)}"] if masks else []
