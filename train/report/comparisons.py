"""The comparisons behind the verdict, one row for each augmentation-only arm, with its interval as a bar."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from train.report.wording import Figure, bounds, decimal, points

Reading = Literal["above the margin", "within the margin", "not settled", "does not count", "undefined"]


class Bar(NamedTuple):
    """An interval on a scale that all rows share; everything in percent of the scale's length.

    Attributes:
        low: lower bound.
        value: the figure.
        high: upper bound.
        zero: the place of 0.
        margin: the place of the rule's margin.
    """

    low: float
    value: float
    high: float
    zero: float
    margin: float


class ComparisonRow(NamedTuple):
    """One augmentation-only arm against the layer-masking arm.

    Attributes:
        arm: its name.
        title: its title.
        number: its position from 1.
        difference: its reliance minus the layer-masking arm's; "undefined" where it is.
        interval: of the difference; empty where there is none.
        reason: why it is undefined; empty where it is not.
        loss: of clean accuracy against the baseline, in points.
        eligible: whether the rule counts the arm.
        reading: what the interval says.
        bar: the interval drawn; None where there is none.
    """

    arm: str
    title: str
    number: int
    difference: str
    interval: str
    reason: str
    loss: str
    eligible: bool
    reading: Reading
    bar: Bar | None


def comparison_rows(claim: Mapping[str, Any]) -> list[ComparisonRow]:
    """The rows in the order of claim.json."""
    comparisons = claim["verdict"]["comparisons"]
    margin = claim["rule"]["margin"]
    names = list(claim["arms"])
    scale = _scale(comparisons, margin)
    rows = []
    for comparison in comparisons:
        found = comparison["difference"]
        defined = found["value"] is not None
        rows.append(
            ComparisonRow(
                arm=comparison["arm"],
                title=claim["arms"][comparison["arm"]]["title"],
                number=names.index(comparison["arm"]) + 1,
                difference=decimal(found["value"]) if defined else "undefined",
                interval=bounds(found, decimal),
                reason="" if defined else found["undefined_because"],
                loss=points(comparison["clean_accuracy_loss"]),
                eligible=comparison["eligible"],
                reading=reading(comparison, margin),
                bar=_bar(found, margin, scale),
            )
        )
    return rows


def reading(comparison: Mapping[str, Any], margin: float) -> Reading:
    """What a comparison says: its interval lies above the margin, within (below) it, or across it."""
    found = comparison["difference"]
    if not comparison["eligible"]:
        return "does not count"
    if found["low"] is None or found["high"] is None:
        return "undefined"
    if found["low"] > margin:
        return "above the margin"
    return "within the margin" if found["high"] < margin else "not settled"


def is_compared(claim: Mapping[str, Any], arm: str, method: str) -> bool:
    """Whether the rule looks at the used share of this arm under this masking method."""
    found = claim["arms"][arm]
    in_the_rule = found["augmentation_only"] or arm == claim["rule"]["layer_masking_arm"]
    return bool(in_the_rule and method == found["method"])


def _bar(found: Figure, margin: float, scale: tuple[float, float]) -> Bar | None:
    places = [found["low"], found["value"], found["high"], 0.0, margin]
    if None in places:
        return None
    start, end = scale
    return Bar(*(100.0 * (place - start) / (end - start) for place in places))


def _scale(comparisons: Sequence[Mapping[str, Any]], margin: float) -> tuple[float, float]:
    """Ends of a scale that holds every interval, 0 and the margin, with a little room."""
    bounds_found = [x["difference"][end] for x in comparisons for end in ("low", "value", "high")]
    numbers = [0.0, margin, *(number for number in bounds_found if number is not None)]
    room = 0.05 * (max(numbers) - min(numbers)) or 0.01
    return min(numbers) - room, max(numbers) + room
