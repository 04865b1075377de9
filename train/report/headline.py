"""What an evaluation has found, in sentences that are made from rows that were tested, and from nothing else.

The headline is about the networks of which the same is said, the largest such group, and the next sentences about the
others. Only rows that compare two networks, or two ways of hiding, compare them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Literal, NamedTuple

from maskrobust.lm_modules.reliance.catalogue import HEADLINE, OUTLINE_GAIN, OUTLINE_PULL
from maskrobust.lm_modules.reliance.measures.accuracy import NEARLY_ONE
from maskrobust.lm_modules.reliance.results import Row, select
from maskrobust.train.report.results import Results, meaningless_because
from maskrobust.train.report.wording import PERCENT, capitalised, decimal, in_sentence, in_words, listed, method_title

State = Literal["reads", "some", "misled", "hardly", "unseen", "open", "one"]

SAID: Mapping[State, tuple[str, str, str]] = {
    "reads": ("reads outlines", "read outlines", ""),
    "some": ("reads a little from outlines", "read a little from outlines", "a little"),
    "misled": ("is misled by outlines", "are misled by outlines", "misled"),
    "hardly": ("hardly reads outlines", "hardly read outlines", "hardly"),
    "unseen": (
        "is not seen in accuracy to read outlines",
        "are not seen in accuracy to read outlines",
        "not seen in accuracy",
    ),
    "open": ("is not shown to read outlines", "are not shown to read outlines", "not shown"),
    "one": ("gives one answer to nearly all holes", "give one answer to nearly all holes", "one answer to all"),
}
"""What is said of one network, of several, and in a later clause of the same sentence."""

LITTLE = {HEADLINE: 0.1, "silhouette_leak": 0.05}
"""What counts as little of a measure. No outline pull, and no gain in log-odds, is known to be little."""

MANY_CLASSES = 50
"""Number of classes above which the right one is often far from the top, where accuracy does not see it."""

_GROUPS = 3
"""For how many groups of networks, of each of which the same is said, there is a sentence."""

_NUMBERS = {OUTLINE_PULL: "pull {} logits", OUTLINE_GAIN: "outlines add {} to log-odds"}
"""How the value of a measure that is no accuracy is told."""

CHANCE_SUSPECTS = (
    "If a network at chance should be better, check its mean and standard deviation (--preprocess), which output each "
    "class is (--classes), and whether outputs that are no class of the data win (--answers present)."
)
"""What is said where a network is at chance with nothing hidden."""

Key = tuple[str, str]
"""A network's name, and a masking method."""


class Decision(NamedTuple):
    """What is said of a network under a way of hiding.

    Attributes:
        state: what is said.
        row: the row that decides.
        low: lower end of its interval, which holds for all networks and ways of hiding together.
        high: upper end.
        little: what counts as little of its measure; 0 where nothing does.
    """

    state: State
    row: Row
    low: float
    high: float
    little: float


def decisions(results: Results) -> dict[Key, Decision]:
    """What is said of each network under each way of hiding.

    The first of used share, leak and outline pull that has rows decides, and with many classes the outline pull ahead
    of both. With many classes, or where no accuracy behind outlines is shown to be above chance, the outline's gain in
    log-odds decides ahead of all. Intervals are widened to hold for all rows together (Bonferroni; as for normal
    errors). Networks at chance are left out.
    """
    lost = at_chance(results)
    own = [row for row in results.defined if row.network not in lost]
    order = [HEADLINE, "silhouette_leak", OUTLINE_PULL]
    many = results.content.get("num_classes", 0) > MANY_CLASSES
    chance, outlines = results.content["chance"], select(own, measure="silhouette_accuracy")
    unseen = many or all((row.low or 0.0) <= chance for row in outlines)
    order = [OUTLINE_GAIN] * unseen + (order[::-1] if many else order)
    measure = next((each for each in order if select(own, measure=each)), "")
    deciding, little = select(own, measure=measure, parameters={}), 0.0 if many else LITTLE.get(measure, 0.0)
    wider = NormalDist().inv_cdf(1 - 0.025 / max(1, len(deciding))) / NormalDist().inv_cdf(0.975)
    answers = select(own, measure="commonest_answer")
    same = {(row.network, row.method) for row in answers if (row.value or 0.0) >= NEARLY_ONE}
    found = {}
    for row in deciding:
        value, key = row.value or 0.0, (row.network, row.method)
        low, high = (value + wider * ((value if end is None else end) - value) for end in (row.low, row.high))
        one = meaningless_because(row) or (measure != HEADLINE and key in same)
        state = "one" if one else _state(low, high, little)
        blind = many and measure not in _NUMBERS and state == "open"
        found[key] = Decision("unseen" if blind else state, row, low, high, little)
    return found


def _state(low: float, high: float, little: float) -> State:
    if high < 0.0:
        return "misled"
    if low > 0.0:
        return "some" if low < little and high < 2 * little else "reads"
    return "hardly" if max(-low, high) < little else "open"


def at_chance(results: Results) -> dict[str, Row]:
    """The clean accuracy of each network that is no better than chance with nothing hidden, by its name."""
    clean = select(results.defined, measure="clean_accuracy")
    return {row.network: row for row in clean if meaningless_because(row)}


def said(results: Results) -> list[str]:
    """The headline, then what its reader has to know, too, one sentence each."""
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
    under = [(_range(select(half, method=each)), in_sentence(method_title(each))) for each in results.methods]
    right = " and ".join(f"{numbers} under {method}" for numbers, method in under if numbers)
    fraction = in_words(float(half[0].parameters["hidden_fraction"])) if half else ""
    remarks = {
        f"{_who(kept, title, 'right in')} {right}, with {fraction} of the patches hidden.": half and not told,
        **dict.fromkeys(others, True),
        "The grid shows the other networks.": len(groups) > _GROUPS,
        **dict.fromkeys(_compared(results, kept), told),
        "Whether the networks differ was not tested.": len(kept) > 1 and not _pairs(results, kept),
        f"{_who([*lost], title, 'at chance')} with nothing hidden ({poor}), so nothing is said of holes.": lost,
        CHANCE_SUSPECTS: lost,
        "Only this way of hiding was tested; others can give other answers.": len({m for _, m in decided}) == 1,
        "Nothing was asked behind outlines: that needs object masks.": not measured,
        **{f"{capitalised(each)}.": True for each in results.content["settings"]["left_out"]},
    }
    return [*[told] * bool(told), *(each for each, applies in remarks.items() if applies)] or [
        "Nothing can be said of holes."
    ]


def hidden_patches(rows: Sequence[Row], wanted: float = 0.5) -> list[Row]:
    """The accuracies with patches hidden of the fraction that is nearest to the one that is wanted."""
    found = select(rows, measure="retention")
    fractions = [float(row.parameters["hidden_fraction"]) for row in found]
    nearest = min(fractions, key=lambda each: abs(each - wanted), default=0.0)
    return [row for row, each in zip(found, fractions, strict=True) if each == nearest]


def _told(results: Results, names: Sequence[str], states: Mapping[str, State], decided: Mapping[Key, Decision]) -> str:
    """One sentence on networks of which the same is said."""
    title = {network.name: network.title for network in results.networks}
    chance, clauses = results.content["chance"], list[str]()
    for state in sorted({*states.values()}, key=[*SAID].index):
        under = list[str]()
        for method in (method for method, each in states.items() if each == state):
            of = [row for row in results.defined if row.network in names and row.method == method]
            outline, circle = (select(of, measure=f"{hole}_accuracy") for hole in ("silhouette", "circle"))
            found, is_first = [decided[name, method] for name in names], not clauses and not under
            numbers = [_range(outline) + " named right" * is_first]
            by_chance = all(  # so that chance stands for what is right behind circles
                (row.low or 0.0) <= chance and (state == "hardly" or chance <= (row.high or 0.0)) for row in circle
            )
            if state != "misled" and by_chance:
                numbers += [f"chance {_range([], chance)}"] * is_first
            else:
                numbers += [f"{_range(circle)} behind circles"]
            if not outline or found[0].row.measure in _NUMBERS:
                number = _NUMBERS.get(found[0].row.measure, _NUMBERS[OUTLINE_PULL])
                numbers = [number.format(_range([each.row for each in found], write=decimal))]
            elif state == "open":
                measure = found[0].row.measure.replace("_", " ")
                ends = (min(each.low for each in found), max(each.high for each in found))
                numbers += [f"{measure} {decimal(ends[0])} to {decimal(ends[1])}"]
            under.append(in_sentence(method_title(method)) + f" ({'; '.join(numbers)})" * (state != "one"))
        clauses.append(f"{SAID[state][2 if clauses else len(names) > 1]} under {listed(under)}")
    return f"{_who(names, title)} {', '.join(clauses)}."


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
        of = [each for each in select(results.defined, method=row.method) if each.measure == "silhouette_accuracy"]
        right = (_range(select(of, network=each)) for each in (row.network, row.compared_with))
        told = f"{title[row.network]} {row.reading} on outlines than {title[row.compared_with]}"
        yield f"Under {in_sentence(method_title(row.method))}, {told} ({' against '.join(right)} named right)."
    ways = _ways_that_differ(results, kept)
    if pairs and not shown:
        most = decimal(max(abs(end or 0.0) for row in pairs for end in (row.low, row.high)))
        so = ": the way of hiding makes the difference" * bool(ways)
        who = "the networks are not" if len(kept) == 2 else "no two networks are"
        yield f"Hidden in the same way, {who} shown to rely differently (used shares may differ by up to {most}){so}."
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
