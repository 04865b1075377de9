"""What an evaluation has found, in sentences that are made from rows that were tested, and from nothing else.

The headline is about the networks of which the same is said, the largest such group, and the next sentences about the
others. Only rows that compare two networks, or two ways of hiding, compare them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from maskrobust.lm_modules.reliance.catalogue import HEADLINE
from maskrobust.lm_modules.reliance.measures.accuracy import NEARLY_ONE
from maskrobust.lm_modules.reliance.results import Row, select
from maskrobust.train.report.own_holes_said import own_holes_said
from maskrobust.train.report.pixels import pixels_said
from maskrobust.train.report.results import Results, meaningless_because, widened
from maskrobust.train.report.wording import (
    PERCENT,
    capitalised,
    in_sentence,
    in_words,
    listed,
    method_title,
    points,
    under,
)

State = Literal["reads", "some", "misled", "hardly", "open", "one"]

SAID: Mapping[State, tuple[str, str, str]] = {
    "reads": ("reads outlines", "read outlines", ""),
    "some": ("reads outlines at least a little", "read outlines at least a little", "at least a little"),
    "misled": ("is misled by outlines", "are misled by outlines", "misled"),
    "hardly": ("hardly reads outlines", "hardly read outlines", "hardly"),
    "open": ("is not shown to read outlines", "are not shown to read outlines", "not shown"),
    "one": ("gives one answer to nearly all holes", "give one answer to nearly all holes", "one answer to all"),
}
"""What is said of one network, of several, and in a later clause of the same sentence."""

BLIND, LITTLE = 0.5, 0.05
"""How often a network that sees no shape chooses its class, and by how much more or less counts as little."""

_GROUPS = 3
"""For how many groups of networks, of each of which the same is said, there is a sentence."""

CHANCE_SUSPECTS = (
    "If a network at chance should be better, check its mean and standard deviation (--preprocess), which output each "
    "class is (--classes), and whether outputs that are no class of the data win (--answers present)."
)
"""What is said where a network is at chance with nothing hidden."""

ONE_OBJECT_EACH = (
    "Every picture counts as an object of its own; if several show one, name objects, or intervals are too short."
)
"""What is said where data do not say which object a picture shows."""

Key = tuple[str, str]
"""A network's name, and a masking method."""


class Decision(NamedTuple):
    """What is said of a network under a way of hiding.

    Attributes:
        state: what is said.
        row: the row that decides.
        low: lower end of its interval, which holds for all networks and ways of hiding together.
        high: upper end.
    """

    state: State
    row: Row
    low: float
    high: float


def decisions(results: Results) -> dict[Key, Decision]:
    """What is said of each network under each way of hiding, by its own shape choices and no other row.

    With B the half that a network is right in that sees no shape, and L = `LITTLE`: "hardly" where the interval lies
    within B - L and B + L, else "reads" where it lies above B + L, "some" where above B, "misled" where below B, and
    "open" otherwise. Intervals are Student's and hold for all rows that were asked together (Bonferroni). Networks at
    chance are left out.
    """
    lost = at_chance(results)
    asked = select(results.over_seeds, measure=HEADLINE)
    answers = select(results.defined, measure="commonest_answer")
    same = {(row.network, row.method) for row in answers if (row.value or 0.0) >= NEARLY_ONE}
    found = {}
    for row in asked:
        if row.network in lost or row.value is None:
            continue
        low, high = widened(row, len(asked))
        state, key = _state(low, high), (row.network, row.method)
        if state in ("hardly", "open") and key in same:
            state = "one"
        found[key] = Decision(state, row, max(low, 0.0), min(high, 1.0))
    return found


def _state(low: float, high: float) -> State:
    if low > BLIND - LITTLE and high < BLIND + LITTLE:
        return "hardly"
    if low > BLIND:
        return "reads" if low > BLIND + LITTLE else "some"
    return "misled" if high < BLIND else "open"


def at_chance(results: Results) -> dict[str, Row]:
    """The clean accuracy of each network that is no better than chance with nothing hidden, by its name."""
    clean = select(results.defined, measure="clean_accuracy")
    return {row.network: row for row in clean if meaningless_because(row)}


def said(results: Results) -> list[str]:
    """The headline, then what its reader has to know, too, one sentence each."""
    if of_pixels := pixels_said(results):
        return of_pixels
    title = {network.name: network.title for network in results.networks}
    lost = at_chance(results)
    kept = [name for name in title if name not in lost]
    decided = decisions(results)
    states = {name: {method: each.state for (of, method), each in decided.items() if of == name} for name in kept}
    groups = [[other for other in kept if states[other] == states[name]] for name in kept if states[name]]
    groups = sorted((group for n, group in enumerate(groups) if group not in groups[:n]), key=lambda group: -len(group))
    told, *others = [_told(results, group, states[group[0]], decided) for group in groups[:_GROUPS]] or [""]
    own = [row for row in results.defined if row.network in kept]
    half = hidden_patches(own)
    poor, measured = _range([*lost.values()]), select(results.defined, measure="circle_accuracy")
    ways = [(_range(select(half, method=each)), under(each)) for each in results.methods]
    right = listed([f"{numbers} {way}" for numbers, way in ways if numbers]) if half else ""
    fraction = in_words(float(half[0].parameters["hidden_fraction"])) if half else ""
    remarks = {
        f"{_who(kept, title, 'right in')} {right}, with {fraction} of the patches hidden.": half and not told,
        **dict.fromkeys(others, True),
        **dict.fromkeys(_surroundings(results, kept), True),
        "The grid shows the other networks.": len(groups) > _GROUPS,
        **dict.fromkeys(_compared(results, kept), told),
        "Whether the networks differ was not tested.": len(kept) > 1 and not _pairs(results, kept),
        f"{_who([*lost], title, 'at chance')} with nothing hidden ({poor}), so nothing is said of holes.": lost,
        CHANCE_SUSPECTS: lost,
        **dict.fromkeys(_undefined(results), True),
        "Only this way of hiding was tested; others can give other answers.": len({m for _, m in decided}) == 1,
        "Nothing was asked behind outlines: that needs object masks.": not measured,
        **{f"{capitalised(each)}.": True for each in results.content["settings"]["left_out"]},
        ONE_OBJECT_EACH: not results.content["settings"]["names_objects"] and measured,
    }
    news = [*own_holes_said(results), *[told] * bool(told)]
    return [*news, *(each for each, applies in remarks.items() if applies)] or ["Nothing can be said of holes."]


def hidden_patches(rows: Sequence[Row], wanted: float = 0.5) -> list[Row]:
    """The accuracies with patches hidden of the fraction that is nearest to the one that is wanted."""
    found = select(rows, measure="retention")
    fractions = [float(row.parameters["hidden_fraction"]) for row in found]
    nearest = min(fractions, key=lambda each: abs(each - wanted), default=0.0)
    return [row for row, each in zip(found, fractions, strict=True) if each == nearest]


def _told(results: Results, names: Sequence[str], states: Mapping[str, State], decided: Mapping[Key, Decision]) -> str:
    """One sentence on networks of which the same is said."""
    title = {network.name: network.title for network in results.networks}
    clauses = list[str]()
    for state in sorted({*states.values()}, key=[*SAID].index):
        ways = list[str]()
        for method in (method for method, each in states.items() if each == state):
            found, is_first = [decided[name, method] for name in names], not clauses and not ways
            numbers = _range([each.row for each in found])
            if is_first:
                numbers = f"of two classes, that of the hole's shape is preferred in {numbers}; 50{PERCENT}: blind"
            if state == "open":
                ends = f"{min(each.low for each in found):.0%} to {max(each.high for each in found):.0%}"
                numbers += f"; may be {ends.replace('%', PERCENT)}"
            ways.append(in_sentence(method_title(method)) + f" ({numbers})" * (state != "one"))
        clauses.append(f"{SAID[state][2 if clauses else len(names) > 1]} under {listed(ways)}")
    return f"{_who(names, title)} {', '.join(clauses)}."


def _surroundings(results: Results, kept: Sequence[str]) -> Iterator[str]:
    """What outline and surroundings add to accuracy, where that is shown of every network, and where of none."""
    leaks = [row for row in select(results.defined, measure="silhouette_leak") if row.network in kept]
    adds, nothing = list[str](), list[str]()
    for method in results.methods:
        of = select(leaks, method=method)
        shown = [low > 0.0 or high < 0.0 for low, high in (widened(row, len(leaks)) for row in of)]
        if of and all(shown):
            adds.append(f"{_range(of, write=lambda value: f'{100 * value:.0f}')} points {under(method)}")
        nothing += [under(method)] * bool(of and not any(shown))
    if adds:
        others = f", and nothing that is shown {listed(nothing)}" if nothing else ""
        yield f"Outline or surroundings add {listed(adds)}{others} (accuracy behind outlines minus behind circles)."


def _undefined(results: Results) -> Iterator[str]:
    """Why shape choices are not defined, where they are not."""
    for row in select(results.over_seeds, measure=HEADLINE, value=None):
        because = row.undefined_because or ""
        yield f"Shape choices are {because}" if because.startswith("undefined") else because


def _pairs(results: Results, kept: Sequence[str]) -> list[Row]:
    """What compares two of these networks under one way of hiding."""
    rows = [row for row in results.comparisons if not row.compared_method and row.low is not None]
    return [row for row in rows if {row.network, row.compared_with} <= {*kept} and not meaningless_because(row)]


def _compared(results: Results, kept: Sequence[str]) -> Iterator[str]:
    """What the rows say that compare networks under one way of hiding, and ways of hiding for each network."""
    title = {network.name: network.title for network in results.networks}
    pairs = sorted(_pairs(results, kept), key=lambda row: -abs(row.value or 0.0))
    shown = [row for row in pairs if row.reading.startswith("relies ")]
    for row in sorted(shown, key=lambda row: kept[0] not in (row.network, row.compared_with))[:2]:
        of = select(results.defined, method=row.method, measure=HEADLINE)
        preferred = (_range(select(of, network=each)) for each in (row.network, row.compared_with))
        told = f"{title[row.network]} {row.reading} on outlines than {title[row.compared_with]}"
        yield f"Under {in_sentence(method_title(row.method))}, {told} ({' against '.join(preferred)} preferred)."
    ways = _ways_that_differ(results, kept)
    if pairs and not shown:
        most = points(max(abs(end or 0.0) for row in pairs for end in (row.low, row.high)))
        so = ": the way of hiding makes the difference" * bool(ways)
        who = "the networks are not" if len(kept) == 2 else "no two networks are"
        yield f"Hidden in the same way, {who} shown to rely differently (shape choices may differ by up to {most}){so}."
    elif ways:
        (more, less), *_ = ways
        relies = f"{_who(kept, title)} {'rely' if len(kept) > 1 else 'relies'} more on outlines"
        yield f"{relies} under {in_sentence(method_title(more))} than under {in_sentence(method_title(less))}."


def _ways_that_differ(results: Results, kept: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of ways of hiding, the one that is shown to be relied on more for every network first; widest first."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in results.comparisons:
        if row.compared_method and row.network in kept and row.reading.startswith("relies "):
            pair = (row.method, row.compared_method)
            ordered = pair if row.reading == "relies more" else pair[::-1]
            found.setdefault(ordered, []).append(abs(row.value or 0.0))
    complete = [pair for pair, values in found.items() if len(values) == len(kept)]
    return sorted(complete, key=lambda pair: -min(found[pair]))


def _who(names: Sequence[str], title: Mapping[str, str], what: str = "") -> str:
    some = listed([title[n] for n in names] or [""]) if len(names) < 4 else f"{len(names)} of {len(title)} networks"
    every = "Both networks" if len(names) == 2 else f"All {len(names)} networks"
    verb = ("is " if len(names) == 1 else "are ") * bool(what)
    return f"{every if 1 < len(names) == len(title) else some} {verb}{what}".strip()


def _range(rows: Sequence[Row], *more: float, write: Callable[[float], str] = "{:.0%}".format) -> str:
    """The values of two rows, else the smallest and the largest one; as in "24 and 26 %"."""
    values = [*(row.value or 0.0 for row in rows), *more]
    ends = [write(each) for each in (values if len(values) == 2 else sorted({*values})[:: max(1, len({*values}) - 1)])]
    ends = ends if len(values) == 2 else [*dict.fromkeys(ends)]
    between = "\u00a0and\u00a0" if len(values) == 2 else "\u00a0to\u00a0"
    return between.join(ends).replace(f"%{between}", between).replace("%", PERCENT)
