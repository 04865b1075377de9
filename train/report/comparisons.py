"""Networks compared by their reliance, as the rows say; what is decided was decided beside the statistics."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from maskrobust.lm_modules.reliance.catalogue import HEADLINE, OUTLINE_PULL, catalogue
from maskrobust.lm_modules.reliance.results import Row, only, select
from maskrobust.train.report.results import Network, Results
from maskrobust.train.report.tables import Bar, Cell, CellWriter, bars_of
from maskrobust.train.report.wording import decimal, interval, listed, method_title, points

_OPPOSITE = {"relies more": "relies less", "relies less": "relies more"}


class BarLine(NamedTuple):
    """A row with its interval drawn.

    Attributes:
        networks: the network, and the one that it is compared with where the line names it.
        cell: the number.
        bar: the interval; None where there is none.
        because: why the number is undefined; empty where it is defined.
        words: further columns.
        muted: whether the rule passes the row over.
    """

    networks: tuple[Network, ...]
    cell: Cell
    bar: Bar | None
    because: str
    words: tuple[str, ...] = ()
    muted: bool = False


class BarTable(NamedTuple):
    """Lines with bars on one scale.

    Attributes:
        identity: of the element.
        headings: of the columns.
        blocks: titles, which may be empty, each with its lines.
    """

    identity: str
    headings: tuple[str, ...]
    blocks: list[tuple[str, list[BarLine]]]


def verdict_table(results: Results, cells: CellWriter) -> BarTable:
    """Every augmentation-only arm against the layer-masking arm."""
    rows, margin = results.comparisons, results.content["rule"]["margin"]
    lines = [
        BarLine(
            (results.network(row.network),),
            cells.write(row),
            bar,
            row.undefined_because or "",
            (method_title(row.method), _clean_accuracy_lost(results, row.network), row.reading),
            row.reading == "does not count",
        )
        for row, bar in zip(rows, bars_of(rows, margin), strict=True)
    ]
    headings = ("Arm", "Difference", "Interval, zero and margin", "Best case", "Clean accuracy lost", "Reading")
    return BarTable("comparisons", headings, [("", lines)] if lines else [])


def pair_table(results: Results, cells: CellWriter) -> BarTable:
    """Every pair of networks under every masking method."""
    rows = results.comparisons
    blocks: dict[str, list[BarLine]] = {}
    for row, bar in zip(rows, bars_of(rows), strict=True):
        networks = results.network(row.network), results.network(row.compared_with)
        line = BarLine(networks, cells.write(row), bar, row.undefined_because or "", (row.reading,))
        blocks.setdefault(method_title(row.method), []).append(line)
    headings = ("Method and pair", "Difference", "Interval and zero", "The first of the pair")
    return BarTable("pairs", headings, list(blocks.items()))


def shares_section(results: Results, cells: CellWriter) -> dict[str, Any]:
    """Of every network under every masking method the used share, or the outline pull where that alone is defined."""
    pulls, used = (
        any(row.value is not None for row in select(results.over_seeds, measure=measure))
        for measure in (OUTLINE_PULL, HEADLINE)
    )
    measure = OUTLINE_PULL if pulls and not used else HEADLINE
    return {"measure": measure, "table": _share_table(results, cells, measure)}


def _share_table(results: Results, cells: CellWriter, measure: str) -> BarTable:
    rows = [row for method in results.methods for row in select(results.over_seeds, measure=measure, method=method)]
    blocks: dict[str, list[BarLine]] = {}
    for row, bar in zip(rows, bars_of(rows), strict=True):
        line = BarLine((results.network(row.network),), cells.write(row), bar, row.undefined_because or "")
        blocks.setdefault(method_title(row.method), []).append(line)
    return BarTable(
        "shares", ("Method and network", catalogue()[measure].title, "Interval and zero"), list(blocks.items())
    )


def _clean_accuracy_lost(results: Results, arm: str) -> str:
    differences = [row for row in select(results.rows, network=arm, measure="clean_accuracy") if row.compared_with]
    return points(-differences[0].value) if differences and differences[0].value is not None else ""


def headline(results: Results) -> str:
    """Which network relies least or most on outlines, and under which masking methods, or that it cannot be told.

    A network relies least under a method where every comparison with it says so.
    """
    if len(results.networks) == 1:
        return _alone(results)
    least = _settled("least", {method: _extreme(results, method, "relies less") for method in results.methods})
    if least:
        return f"{least}."
    most = _settled("most", {method: _extreme(results, method, "relies more") for method in results.methods})
    if most:
        return f"{most}; which relies least cannot be told."
    return "Which network relies least on outlines cannot be told from these images."


def _alone(results: Results) -> str:
    """Under which methods the only network relies on outlines: by its outline pull where shares are undefined."""
    title, rows = results.networks[0].title, select(results.over_seeds, measure=HEADLINE)
    read = [method_title(row.method).lower() for row in rows if row.reading == "relies on outlines"]
    if read:
        return f"{title} relies on outlines under {listed(read)}."
    if all(row.value is None for row in rows):
        pulls = select(results.over_seeds, measure=OUTLINE_PULL)
        pulled = [method_title(row.method).lower() for row in pulls if row.reading == "pulled"]
        if pulled:
            under = listed(pulled)
            return f"In pictures without objects, a hole pulls {title} towards the object of its shape under {under}."
        if any(row.value is not None for row in pulls):
            return f"That a hole pulls {title} towards the object of its shape is not shown: no interval lies above 0."
        return f"Whether {title} relies on outlines cannot be told: its used share is undefined."
    return f"That {title} relies on outlines cannot be shown: no used share's interval lies off zero."


def _extreme(results: Results, method: str, reading: str) -> Network | None:
    """The network of which every comparison says `reading`; None where there is none."""
    found = [
        network
        for network in results.networks
        if len(_agreeing(results, network, method, reading)) == len(results.networks) - 1
    ]
    return found[0] if found else None


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
    return [(method_title(method), _sentences(results, method)) for method in results.methods]


def _sentences(results: Results, method: str) -> str:
    shares = {
        network.number: only(results.over_seeds, measure=HEADLINE, method=method, network=network.name)
        for network in results.networks
    }
    values = {number: row.value for number, row in shares.items() if row is not None and row.value is not None}
    if len(values) < len(results.networks) or len(values) == 1:
        listing = (
            f"{network.title}: {_share_or_pull(results, method, network, shares[network.number])}"
            for network in results.networks
        )
        return f"{'; '.join(listing)}."
    ordered = sorted(results.networks, key=lambda network: abs(values[network.number]))
    least, most = ordered[0], ordered[-1]
    return (
        f"{least.title} lies nearest to zero, with a used share of {_written(shares[least.number])}; {most.title} "
        f"farthest from it, with {_written(shares[most.number])}. {_apart(results, method, (least, most))}"
    )


def _share_or_pull(results: Results, method: str, network: Network, share: Row | None) -> str:
    """A network's used share in words, or its outline pull where that alone is defined."""
    pull = only(results.over_seeds, measure=OUTLINE_PULL, method=method, network=network.name)
    if (share is None or share.value is None) and pull is not None and pull.value is not None:
        return f"outline pull {_written(pull)} logits"
    return f"used share {_written(share)}"


def _apart(results: Results, method: str, ends: Sequence[Network]) -> str:
    """Which of the other networks the least and the most reliant one cannot be told apart from."""
    others = len(results.networks) - 1
    close = {
        end.title: [
            network.title
            for network in results.networks
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
