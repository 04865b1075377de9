"""The pages of a claim and of an evaluation, each a list of sections, and what a reader takes home, in words."""

from collections.abc import Mapping, Sequence

from maskrobust.lm_modules.reliance.catalogue import HEADLINE, OUTLINE_PULL
from maskrobust.lm_modules.reliance.results import select
from maskrobust.train.report.blocks import Section, html, render_page
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
    Section("transfer", "Masks that were trained on, and masks never seen", transfer),
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
    Section("transfer", "Masks that were trained on, and masks never seen", transfer),
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
    title = headline(results)
    header = html('<h1 id="headline">{{ title }}</h1>', title=title)
    return render_page("evaluate", title, header, sections, results)


_OPPOSITE = {"relies more": "relies less", "relies less": "relies more"}


def headline(results: Results) -> str:
    """Which network relies least or most on outlines, and under which masking methods, or that this cannot be told.

    A network relies least under a method where every comparison with it says so. Networks whose used share means
    nothing are not compared; that and why is said, and of which networks no measure means anything.
    """
    found = _finding(results)
    if not any(select(results.over_seeds, measure=measure) for measure in (HEADLINE, OUTLINE_PULL)):
        found = "Accuracy with parts of the image hidden was measured; reliance on outlines was not."
    return " ".join(filter(None, (found, _at_chance(results), _meaningless(results))))


def _finding(results: Results) -> str:
    compared = {method: _meaningful(results, method) for method in results.methods}
    if not any(compared.values()):
        return ""
    if len(results.networks) == 1:
        return _alone(results, list(filter(compared.get, results.methods)))
    for word, reading, end in (
        ("least", "relies less", "."),
        ("most", "relies more", "; which relies least cannot be told."),
    ):
        found = _settled(word, {method: _extreme(results, method, each, reading) for method, each in compared.items()})
        if found:
            return f"{found}{end}"
    return "Which network relies least on outlines cannot be told from these images."


def _meaningful(results: Results, method: str) -> list[Network]:
    """The networks whose used share under a masking method means something, or is undefined."""
    rows = {row.network: row for row in select(results.over_seeds, measure=HEADLINE, method=method)}
    return [each for each in results.networks if each.name not in rows or not meaningless_because(rows[each.name])]


def _at_chance(results: Results) -> str:
    """Of which networks no measure means anything, and why."""
    found = {row.network: meaningless_because(row) for row in select(results.over_seeds, measure="clean_accuracy")}
    return " ".join(
        f"The measures of {results.network(name).title} mean nothing: {reason}."
        for name, reason in found.items()
        if reason
    )


def _meaningless(results: Results) -> str:
    """Of which other networks, under which masking methods, the used share means nothing, and why."""
    found: dict[tuple[str, str], list[str]] = {}
    at_chance = {row.reading for row in select(results.over_seeds, measure="clean_accuracy")}
    for row in select(results.over_seeds, measure=HEADLINE):
        reason = meaningless_because(row)
        if reason and row.reading not in at_chance:
            key = results.network(row.network).title, reason
            found.setdefault(key, []).append(method_title(row.method).lower())
    return " ".join(
        f"The used share of {title} means nothing under {listed(methods)}: {reason}."
        for (title, reason), methods in found.items()
    )


def _alone(results: Results, methods: Sequence[str]) -> str:
    """Under which methods the only network relies on outlines: by its outline pull where shares are undefined."""
    title = results.networks[0].title
    rows, pulls = (
        [row for row in select(results.over_seeds, measure=measure) if row.method in methods]
        for measure in (HEADLINE, OUTLINE_PULL)
    )
    read = [method_title(row.method).lower() for row in rows if row.reading == "relies on outlines"]
    if read:
        return f"{title} relies on outlines under {listed(read)}."
    if all(row.value is None for row in rows):
        pulled = [method_title(row.method).lower() for row in pulls if row.reading == "pulled"]
        if pulled:
            under = listed(pulled)
            return f"In empty scenes, a hole pulls {title} towards the object of its shape under {under}."
        if any(row.value is not None for row in pulls):
            return f"It is not shown that a hole pulls {title} towards the object of its shape: no interval is above 0."
        return f"Whether {title} relies on outlines cannot be told: its used share is undefined."
    return f"It is not shown that {title} relies on outlines: every interval of its used share holds 0."


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
