"""What a reader takes home: which network relies least on outlines, in words, for the page and the terminal.

What is told apart, and where a measure means nothing, was decided beside the statistics; see `Row.reading`.
"""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from maskrobust.lm_modules.reliance.catalogue import HEADLINE, OUTLINE_PULL
from maskrobust.lm_modules.reliance.results import Row, only, select
from maskrobust.train.report.blocks import prose
from maskrobust.train.report.results import Network, Results, meaningless_because
from maskrobust.train.report.wording import decimal, interval, listed, method_title

_OPPOSITE = {"relies more": "relies less", "relies less": "relies more"}


def header(results: Results) -> Markup:
    """What stands above all sections of an evaluation: the headline, and a sentence for each masking method."""
    return prose("header", headline=headline(results), sentences=method_sentences(results))


def headline(results: Results) -> str:
    """Which network relies least or most on outlines, and under which masking methods, or that this cannot be told.

    A network relies least under a method where every comparison with it says so. Networks whose used share means
    nothing are not compared; that and why is said, and of which networks no measure means anything.
    """
    found = _finding(results)
    if not select(results.over_seeds, measure=HEADLINE):
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
            return f"In pictures without objects, a hole pulls {title} towards the object of its shape under {under}."
        if any(row.value is not None for row in pulls):
            return f"That a hole pulls {title} towards the object of its shape is not shown: no interval lies above 0."
        return f"Whether {title} relies on outlines cannot be told: its used share is undefined."
    return f"That {title} relies on outlines cannot be shown: no used share's interval lies off zero."


def _extreme(results: Results, method: str, networks: Sequence[Network], reading: str) -> Network | None:
    """The network of which every comparison with the others says `reading`; None where there is none."""
    others = {each.name for each in networks}
    found = [each for each in networks if others - {each.name} <= _agreeing(results, each, method, reading)]
    return found[0] if found and len(networks) > 1 else None


def _agreeing(results: Results, network: Network, method: str, *readings: str) -> set[str]:
    """The networks against which a comparison says one of the readings of this one."""
    rows = select(results.comparisons, method=method)
    as_first = {row.compared_with for row in rows if row.network == network.name and row.reading in readings}
    return as_first | {
        row.network for row in rows if row.compared_with == network.name and _OPPOSITE.get(row.reading) in readings
    }


def _settled(word: str, found: Mapping[str, Network | None]) -> str:
    """As in "a relies least on outlines under black fill"; empty where no method settles it."""
    by_title: dict[str, list[str]] = {}
    for method, network in found.items():
        if network is not None:
            by_title.setdefault(network.title, []).append(method_title(method).lower())
    if len(by_title) > 1:
        return f"Which network relies {word} on outlines depends on the masking method"
    for title, methods in by_title.items():
        everywhere = "" if len(found) == 1 else ", under every masking method"
        under = everywhere if len(methods) == len(found) else f" under {listed(methods)}"
        return f"{title} relies {word} on outlines{under}"
    return ""


def method_sentences(results: Results) -> list[tuple[str, str]]:
    """For each masking method, by title, the smallest and the largest used share, and from which others they differ."""
    asked = {row.method for row in select(results.over_seeds, measure=HEADLINE)}
    return [(method_title(method), _sentences(results, method)) for method in results.methods if method in asked]


def _sentences(results: Results, method: str) -> str:
    rows = {row.network: row for row in select(results.over_seeds, measure=HEADLINE, method=method)}
    nothing = [
        f"The used share of {results.network(name).title} means nothing: {reason}."
        for name, row in rows.items()
        if (reason := meaningless_because(row))
    ]
    counted = _meaningful(results, method)
    return " ".join([*([_compared(results, method, counted, rows)] if counted else []), *nothing])


def _compared(results: Results, method: str, networks: Sequence[Network], rows: Mapping[str, Row]) -> str:
    """The smallest and the largest of the networks' used shares, or that they do not differ; all where one is alone."""
    shares = {name: row.value for name, row in rows.items() if row.value is not None}
    if len(networks) == 1 or any(each.name not in shares for each in networks):
        listing = (f"{each.title}: {_share_or_pull(results, method, each, rows.get(each.name))}" for each in networks)
        return f"{'; '.join(listing)}."
    ordered = sorted(networks, key=lambda each: abs(shares[each.name]))
    least, most = ordered[0], ordered[-1]
    numbers = {each.name: _written(rows[each.name]) for each in networks}
    if decimal(abs(shares[least.name])) == decimal(abs(shares[most.name])):
        titles = listed([each.title for each in networks])
        return f"{titles}: no difference, with used shares of {listed([*numbers.values()])}."
    return (
        f"{least.title} lies nearest to zero, with a used share of {numbers[least.name]}; {most.title} farthest from "
        f"it, with {numbers[most.name]}. {_apart(results, method, (least, most), networks)}"
    )


def _share_or_pull(results: Results, method: str, network: Network, share: Row | None) -> str:
    """A network's used share in words, or its outline pull where that alone is defined."""
    pull = only(results.over_seeds, measure=OUTLINE_PULL, method=method, network=network.name)
    if (share is None or share.value is None) and pull is not None and pull.value is not None:
        return f"outline pull {_written(pull)} logits"
    return f"used share {_written(share)}"


def _apart(results: Results, method: str, ends: Sequence[Network], networks: Sequence[Network]) -> str:
    """Which of the other networks the least and the most reliant one cannot be told apart from."""
    others = len(networks) - 1
    close = {
        end.title: [
            network.title
            for network in networks
            if network != end and network.name not in _agreeing(results, end, method, *_OPPOSITE)
        ]
        for end in ends
    }
    counts = {len(titles) for titles in close.values()}
    if counts == {0}:
        return "They can be told apart." if others == 1 else "Each can be told apart from all others."
    if counts == {others}:
        return "They cannot be told apart." if others == 1 else "Neither can be told apart from any other."
    return " ".join(f"{title} cannot be told apart from {listed(titles)}." for title, titles in close.items() if titles)


def _written(row: Row | None) -> str:
    if row is None or row.value is None:
        return "undefined"
    return f"{decimal(row.value)} {interval(row.low, row.high, decimal)}".strip()
