"""The comparisons behind the verdict, one row for each augmentation-only arm, with its interval as a bar."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from maskrobust.train.report.bars import Bar, bar, scale_of
from maskrobust.train.report.wording import bounds, decimal, points

Reading = Literal["above the margin", "within the margin", "not settled", "does not count", "undefined"]


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
    scale = scale_of((comparison["difference"] for comparison in comparisons), margin)
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
                bar=bar(found, scale, margin),
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
