"""The pages of a claim and of an evaluation, each a list of sections, and what a reader takes home, in words."""

from collections.abc import Mapping, Sequence

from maskrobust.lm_modules.reliance.catalogue import HEADLINE, OUTLINE_PULL
from maskrobust.lm_modules.reliance.plan import ABOUT_CRUDE_MASKS
from maskrobust.lm_modules.reliance.results import Row, select
from maskrobust.train.report.blocks import Section, prose, render_page
from maskrobust.train.report.examples import ExampleStrip, examples
from maskrobust.train.report.results import Network, Results, meaningless_because
from maskrobust.train.report.sections.accuracy import accuracy, accuracy_of_classes, curves, transfer
from maskrobust.train.report.sections.claim import factorial, retention, rule, title, verdict
from maskrobust.train.report.sections.measures import (
    against_layer_masking,
    definitions,
    differences,
    margins,
    measures,
    pairs,
    shares,
)
from maskrobust.train.report.sections.run import run
from maskrobust.train.report.wording import listed, method_title

CLAIM: tuple[Section[Results], ...] = (
    Section("factorial", "Every training under every masking method", factorial),
    Section("retention", "Accuracy with patches hidden, and reliance on the outline", retention),
    Section("compared", "Comparisons behind the verdicts", against_layer_masking),
    Section("rule", "The question, and the rule stated beforehand", rule),
    Section("measures", "Every arm under every masking method, in numbers", measures),
    Section("curves", "How accuracy falls as more is hidden", curves),
    Section("transfer", "Accuracy by mask family", transfer),
)
"""What a claim's page shows, before its examples."""

RELIANCE: tuple[Section[Results], ...] = (
    Section("accuracy", "Accuracy by hidden fraction", accuracy),
    Section("classes", "Accuracy of each class", accuracy_of_classes),
    Section("outlines", "Reliance on the outline of the hole", shares),
    Section("compared", "Which network relies less on outlines", pairs),
    Section("measures", "Every network under every masking method", measures),
    Section("differences", "Differences from the first network", differences),
    Section("margins", "The leak with a margin around the object", margins),
    Section("curves", "How accuracy falls as more is hidden", curves),
    Section("transfer", "Accuracy by mask family", transfer),
)
"""What an evaluation's page shows, before its examples."""

_LAST: tuple[Section[Results], ...] = (
    Section("definitions", "What is measured", definitions),
    Section("run", "How it was run", run),
)


def render_claim(results: Results, shown: Sequence[ExampleStrip]) -> str:
    """The page of a claim: verdict, rule, charts, tables, pictures, definitions, settings, and claim.json itself.

    Args:
        results: of a claim. Sections on curves and on transfer are left out where it has none.
        shown: what `example_strips` returns; may be empty.

    Returns:
        HTML as that of `render_page`.

    Raises:
        ValueError: a claim holds a number that is not finite.
    """
    sections = (*CLAIM, examples(shown), *_LAST)
    return render_page("claim", title(results), verdict(results), sections, results)


def render_reliance(results: Results, shown: Sequence[ExampleStrip]) -> str:
    """The page of an evaluation: accuracy, which network relies least on outlines, every number, reliance.json itself.

    Args:
        results: of an evaluation. Sections on pairs, differences, curves and transfer are left out where it has none.
        shown: what `example_strips` returns; may be empty.

    Returns:
        HTML as that of `render_page`.

    Raises:
        ValueError: an evaluation holds a number that is not finite.
    """
    sections = (*RELIANCE, examples(shown), *_LAST)
    first, *further = headline(results)
    header = prose("reliance_header", first=first, further=further, left_out=results.content["settings"]["left_out"])
    return render_page("evaluate", first, header, sections, results)


_OPPOSITE = {"relies more": "relies less", "relies less": "relies more"}


def headline(results: Results) -> list[str]:
    """Sentences: which network relies least or most on outlines and under which masking methods, else what each does.

    A network relies least under a method where every comparison with it says so. Networks whose used share means
    nothing are not compared; that and why is said, and of which networks no measure means anything.
    """
    found = _findings(results)
    if not any(select(results.over_seeds, measure=measure) for measure in (HEADLINE, OUTLINE_PULL)):
        found = ["Accuracy with parts of the image hidden was measured; reliance on outlines was not."]
    return [*found, *_crude(results), *_at_chance(results), *_meaningless(results)]


def _crude(results: Results) -> list[str]:
    """That numbers about objects and outlines are about crude masks, where they are."""
    masks = results.content.get("settings", {}).get("crude_masks")
    return [f"Crude: {ABOUT_CRUDE_MASKS.format(masks=masks)}"] if masks else []


def _findings(results: Results) -> list[str]:
    meaningful = {method: _meaningful(results, method) for method in results.methods}
    each = [
        _alone(results, network, under)
        for network in results.networks
        if (under := [method for method, found in meaningful.items() if network in found])
    ]
    if all(len(found) < 2 for found in meaningful.values()):
        return each
    for word, reading, end in (
        ("least", "relies less", "."),
        ("most", "relies more", "; which relies least is not settled."),
    ):
        found = _settled(word, {method: _extreme(results, method, of, reading) for method, of in meaningful.items()})
        if found:
            return [f"{found}{end}", *each]
    return [
        *each,
        "Which network relies least is not settled: under no masking method does one rely less than all others.",
    ]


def _meaningful(results: Results, method: str) -> list[Network]:
    """The networks whose used share under a masking method means something, or is undefined."""
    rows = {row.network: row for row in select(results.over_seeds, measure=HEADLINE, method=method)}
    return [each for each in results.networks if each.name not in rows or not meaningless_because(rows[each.name])]


def _at_chance(results: Results) -> list[str]:
    """Of which networks no measure means anything, and why."""
    found = {row.network: meaningless_because(row) for row in select(results.over_seeds, measure="clean_accuracy")}
    compared = ", and no verdict compares it" if len(results.networks) > 1 else ""
    return [
        f"{results.network(name).title} is at chance, so only its accuracy means anything{compared}: {reason}."
        for name, reason in found.items()
        if reason
    ]


def _meaningless(results: Results) -> list[str]:
    """Of which other networks, under which masking methods, the used share means nothing, and why."""
    found: dict[tuple[str, str], list[str]] = {}
    at_chance = {row.reading for row in select(results.over_seeds, measure="clean_accuracy")}
    for row in select(results.over_seeds, measure=HEADLINE):
        reason = meaningless_because(row)
        if reason and row.reading not in at_chance:
            key = results.network(row.network).title, reason
            found.setdefault(key, []).append(method_title(row.method).lower())
    return [
        f"The used share of {title} means nothing under {listed(methods)}: {reason}."
        for (title, reason), methods in found.items()
    ]


def _alone(results: Results, network: Network, methods: Sequence[str]) -> str:
    """Under which methods a network relies on outlines: by its outline pull where its used shares are undefined."""
    title = network.title
    rows, pulls = (
        [row for row in select(results.over_seeds, measure=measure, network=network.name) if row.method in methods]
        for measure in (HEADLINE, OUTLINE_PULL)
    )
    under, without = _by_reading(rows, "relies on outlines")
    if under:
        further = f"; no evidence under {listed(without)}" if without else ""
        return f"{title} relies on outlines under {listed(under)}{further}."
    if all(row.value is None for row in rows):
        pulled, without = _by_reading(pulls, "pulled")
        if pulled:
            return f"In empty scenes, a hole pulls {title} towards the object of its shape under {listed(pulled)}."
        if without:
            return f"No evidence that a hole pulls {title} towards the object of its shape: no interval is above 0."
        return f"Whether {title} relies on outlines cannot be told: its used share is undefined."
    return f"No evidence that {title} relies on outlines: every interval of its used share contains 0."


def _by_reading(rows: Sequence[Row], reading: str) -> tuple[list[str], list[str]]:
    """Titles of the masking methods of defined rows, with that reading and with another."""
    found: tuple[list[str], list[str]] = ([], [])
    for row in rows:
        if row.value is not None:
            found[row.reading != reading].append(method_title(row.method).lower())
    return found


def _extreme(results: Results, method: str, networks: Sequence[Network], reading: str) -> Network | None:
    """The network of which every comparison with the others says `reading`; None where there is none."""
    said = {(row.network, row.compared_with): row.reading for row in select(results.comparisons, method=method)}
    said |= {(other, network): _OPPOSITE.get(word, "") for (network, other), word in said.items()}
    found = [
        each
        for each in networks
        if all(said.get((each.name, other.name)) == reading for other in networks if other != each)
    ]
    return found[0] if found and len(networks) > 1 else None


def _settled(word: str, found: Mapping[str, Network | None]) -> str:
    """As in "a relies least on outlines under black fill"; empty where no method settles it."""
    by_title: dict[str, list[str]] = {}
    for method, network in found.items():
        if network is not None:
            by_title.setdefault(network.title, []).append(method_title(method).lower())
    if len(by_title) > 1:
        return f"Which network relies {word} on outlines depends on the masking method"
    for each, methods in by_title.items():
        everywhere = "" if len(found) == 1 else ", under every masking method"
        under = everywhere if len(methods) == len(found) else f" under {listed(methods)}"
        return f"{each} relies {word} on outlines{under}"
    return ""
