"""Intervals as bars on one scale."""

from collections.abc import Iterable
from typing import NamedTuple

from maskrobust.train.report.wording import Figure


class Scale(NamedTuple):
    """Ends of an axis.

    Attributes:
        start: the number at its left end.
        end: the number at its right end.
    """

    start: float
    end: float

    def place(self, number: float) -> float:
        """Where a number lies, in percent of the axis."""
        return 100.0 * (number - self.start) / (self.end - self.start)


class Bar(NamedTuple):
    """An interval on a scale that all rows share; everything in percent of the scale's length.

    Attributes:
        low: lower bound.
        value: the figure.
        high: upper bound.
        zero: the place of 0.
        margin: the place of the rule's margin; None where there is no rule.
    """

    low: float
    value: float
    high: float
    zero: float
    margin: float | None


def scale_of(figures: Iterable[Figure], margin: float | None = None) -> Scale:
    """A scale that holds every interval, 0 and the margin, with a little room."""
    found = [figure[end] for figure in figures for end in ("low", "value", "high")]
    numbers = [number for number in (0.0, margin, *found) if number is not None]
    room = 0.05 * (max(numbers) - min(numbers)) or 0.01
    return Scale(min(numbers) - room, max(numbers) + room)


def bar(figure: Figure, scale: Scale, margin: float | None = None) -> Bar | None:
    """A figure's interval; None where it has none."""
    low, value, high = (figure[end] for end in ("low", "value", "high"))
    if low is None or value is None or high is None:
        return None
    drawn_margin = None if margin is None else scale.place(margin)
    return Bar(scale.place(low), scale.place(value), scale.place(high), scale.place(0.0), drawn_margin)
