"""What an evaluation has found about the holes that images bring along: sentences, and a table."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from markupsafe import Markup

from maskrobust.lm_modules.reliance.catalogue import OWN_HOLE_PULL
from maskrobust.lm_modules.reliance.hole_reader import FEW_IMAGES
from maskrobust.lm_modules.reliance.results import Row, only, select
from maskrobust.train.report.blocks import Cell, Line, prose, table
from maskrobust.train.report.results import Network, Results, meaningless_because, widened
from maskrobust.train.report.wording import (
    PERCENT,
    capitalised,
    cut,
    hundredths,
    in_sentence,
    interval,
    listed,
    method_title,
    percent,
    under,
)

State = Literal["follows", "some", "misled", "hardly", "open", "nothing"]

SAID: Mapping[State, tuple[str, str]] = {
    "follows": ("follow the hole", "follows"),
    "some": ("follow the hole at least a little", "at least a little"),
    "misled": ("are misled by the hole", "misled"),
    "hardly": ("hardly follow the hole", "hardly"),
    "open": ("are not shown to follow the hole", "not shown"),
    "nothing": ("find nothing to follow in the hole", "nothing to follow"),
}
"""What is said of answers in a sentence, and the word in a table and in a later clause of the sentence."""

LITTLE = 0.05
"""What counts as little of a pull, in answers."""

_IN_A_SENTENCE = 3
"""Number of networks whose accuracies a sentence has."""

_NAME, _METHOD, _WORD = 18, 17, 19
"""Widths of the terminal's columns of names and words."""


class OwnHolesLine(NamedTuple):
    """A network under a way of hiding.

    Attributes:
        network: the network.
        method: the masking method.
        own: accuracy with the images' own holes.
        exchanged: accuracy with those of other images.
        pull: how far answers follow the hole; its interval holds for all lines together.
        state: what is said of that; None of a network at chance.
    """

    network: Network
    method: str
    own: Row
    exchanged: Row
    pull: Row
    state: State | None

    @property
    def word(self) -> str:
        """What is said, in a table."""
        return "at chance" if self.state is None else SAID[self.state][1]


def state_of(low: float, high: float, *, tell: bool) -> State:
    """What is said of a pull within an interval.

    Args:
        low: lower end.
        high: upper end.
        tell: whether a reader of holes alone finds that they tell the class.
    """
    if low > -LITTLE and high < LITTLE:
        return "hardly" if tell else "nothing"
    if low > 0.0:
        return "follows" if low > LITTLE else "some"
    return "misled" if high < 0.0 else "open"


def own_holes_table(results: Results) -> list[OwnHolesLine]:
    """A line for each network under each way of hiding for which holes were exchanged."""
    return [*_lines(results)]


def _lines(results: Results) -> Iterator[OwnHolesLine]:
    asked = select(results.over_seeds, measure=OWN_HOLE_PULL)
    clean = select(results.defined, measure="clean_accuracy")
    lost = {row.network for row in clean if meaningless_because(row)}
    for method in results.methods:
        for network in results.networks:
            names = ("own_holes_accuracy", "exchanged_holes_accuracy", OWN_HOLE_PULL)
            rows = [only(results.defined, measure=name, network=network.name, method=method) for name in names]
            own, exchanged, pull = rows
            if own is None or exchanged is None or pull is None or pull.value is None:
                continue
            low, high = widened(pull, len(asked))
            pull = replace(pull, low=max(low, -1.0), high=min(high, 1.0))
            state = None if network.name in lost else state_of(low, high, tell=results.content["own_holes"]["tell"])
            yield OwnHolesLine(network, method, own, exchanged, pull, state)


def own_holes_said(results: Results) -> list[str]:
    """Accuracies, what holes alone tell, and how far each network follows them, a sentence each; none without holes."""
    found, about = own_holes_table(results), results.content.get("own_holes")
    if about is None:
        return []
    kept = [line for line in found if line.state is not None]
    by_network = [[line for line in kept if line.network == each] for each in results.networks]
    return [
        *_accuracies(found, len(results.networks) > 1),
        *_told_by_holes(results, about),
        *(_told(lines, results, about, len(results.networks) > 1) for lines in by_network if lines),
        *dict.fromkeys(_undefined(results)),
    ]


def _accuracies(found: Sequence[OwnHolesLine], are_named: bool) -> Iterator[str]:
    """One sentence with what own and exchanged holes leave of the accuracy, of the first networks under each way."""
    networks = [*dict.fromkeys(line.network.title for line in found)]
    clauses = list[str]()
    for name in networks[:_IN_A_SENTENCE]:
        ways = [
            f"{_points(line.own.value)}\u00a0→\u00a0{_points(line.exchanged.value)}{PERCENT} {under(line.method)}"
            for line in found
            if line.network.title == name
        ]
        clauses.append(f"{name} " * are_named + listed(ways))
    if clauses:
        others = "; the table has the other networks" * (len(networks) > _IN_A_SENTENCE)
        yield f"Right with own → exchanged holes: {'; '.join(clauses)}{others}."


def _told_by_holes(results: Results, about: Mapping[str, Any]) -> Iterator[str]:
    order = only(results.rows, measure="holes_tell", parameters={"by": "everything"}, compared_with="")
    if order is None or order.value is None:
        yield "What holes alone tell is not known: it takes images of two classes, and of three objects."
        return
    right = f"{_points(order.value)}{PERCENT} (50{PERCENT} is blind)"
    if about["tell"]:
        by = f", by their {listed(about['telling'])}" * bool(about["telling"])
        yield f"Of two holes of two classes, holes alone say whose is whose in {right}{by}."
        return
    yield f"Holes alone are not shown to tell the class: of two, they say whose is whose in {right}."
    if about["read"] < FEW_IMAGES:
        yield f"A weak reader of {about['read']} images does not show that their holes tell nothing."


def _told(lines: Sequence[OwnHolesLine], results: Results, about: Mapping[str, Any], is_named: bool) -> str:
    """One sentence on a network."""
    most = only(results.rows, measure="holes_pull", compared_with="")
    clauses = list[str]()
    for state in (each for each in SAID if any(line.state == each for line in lines)):
        ways = list[str]()
        for line in (line for line in lines if line.state == state):
            value = _points(line.pull.value)
            if not clauses and not ways:
                of = f" of {_points(most.value)}" if about["tell"] and most and most.value is not None else ""
                value = f"by {value}{of} points"
            if state in ("open", "some", "misled"):
                value += f"; {_points(line.pull.low)} to {_points(line.pull.high)}"
            ways.append(f"{in_sentence(method_title(line.method))} ({value})")
        first, later = SAID[state]
        clauses.append(f"{later if clauses else first} under {listed(ways)}")
    who = f"Answers of {lines[0].network.title}" if is_named else "Answers"
    return f"{who} {', '.join(clauses)}."


def _undefined(results: Results) -> Iterator[str]:
    """Why pulls are not defined, where they are not."""
    for row in select(results.over_seeds, measure=OWN_HOLE_PULL):
        if row.undefined_because:
            yield f"Under {in_sentence(method_title(row.method))} the pull of holes is {row.undefined_because}"


def own_holes_lines(results: Results) -> list[str]:
    """The table in a terminal, at most 80 columns wide; none where no image has a hole of its own."""
    found = own_holes_table(results)
    if not found:
        return []
    lines = [
        f"{'':{_NAME + _METHOD}}{'holes:':>6}{'':10}  follows holes?",
        f"{'right in ' + PERCENT.strip():{_NAME + _METHOD}}{'own':>6}{'exchanged':>10}  {'(points)':{_WORD}}",
    ]
    for line in found:
        way = cut(in_sentence(method_title(line.method)), _METHOD - 1)
        right = f"{_points(line.own.value):>6}{_points(line.exchanged.value):>10}"
        name = f"{cut(line.network.title, _NAME - 1):{_NAME}}{way:{_METHOD}}"
        lines.append(f"{name}{right}  {line.word} {_points(line.pull.value)}")
    return [line.rstrip() for line in lines]


def own_holes_block(results: Results) -> Markup:
    """The table on a page, with what it shows; nothing where no image has a hole of its own."""
    found = own_holes_table(results)
    if not found:
        return Markup()
    headings = ("Network", "Way of hiding", "Own holes", "Exchanged holes", "Pull, in points", "Follows the hole?")
    lines = [
        Line(
            line.network.title,
            [
                Cell(method_title(line.method)),
                *(Cell(percent(row.value or 0.0), interval(row.low, row.high, percent)) for row in line[2:4]),
                Cell(hundredths(line.pull.value or 0.0), interval(line.pull.low, line.pull.high, hundredths)),
                Cell(capitalised(line.word), look="words"),
            ],
        )
        for line in found
    ]
    shown = table(
        "own-holes", "Accuracy with own and with exchanged holes, and how far answers follow holes", headings, lines
    )
    about = results.content["own_holes"]
    return prose("own_holes", table=shown, about=about, little=round(100 * LITTLE))


def _points(value: float | None) -> str:
    """A fraction, or a difference of two, in whole hundredths."""
    return f"{round(100 * (value or 0.0))}".replace("-", "−")
