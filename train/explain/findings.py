"""What explanations say in one sentence with its size, which heads the page of `maskrobust explain`."""

import math
from collections.abc import Sequence

from maskrobust.lm_modules.methods import is_fill
from maskrobust.lm_modules.reliance.results import Row, select
from maskrobust.train.report.wording import decimal, in_sentence, listed, method_title, percents, under

_EVEN, _ALIKE = 0.5, 0.9
"""Evenness from which on scores show the hole; rank correlation from which on two orders of segments are the same."""


def in_explanations(rows: Sequence[Row], methods: Sequence[str]) -> str:
    """The news of explanations: that scores show a fill's holes, or how far two masking methods agree.

    In order of precedence: hiding segments has no effect at all; under a fill, but not under layer masking, all
    segments count nearly alike; rank correlation. All are of the network, explainer and segments that come first.

    Args:
        rows: rows of the result table.
        methods: the masking methods, in order.
    """
    fills = [each for each in methods if is_fill(each)]
    others = [each for each in methods if not is_fill(each)]
    evens = {each: _of_first(select(rows, measure="evenness", method=each)) for each in methods}
    even = {each: mean_of(found) for each, found in evens.items()}
    if blank := [each for each in methods if evens[each] and math.isnan(even[each])]:
        named = listed([in_sentence(method_title(each)) for each in blank])
        return f"There is nothing to explain under {named}: the predictions are the same whatever is hidden."
    for fill in fills:
        if others and even[fill] >= _EVEN > even[others[0]]:
            return (
                f"Scores {under(fill)} show the hole, not the picture: {percents(even[fill])} of them is the same for "
                f"all segments ({percents(even[others[0]])} {under(others[0])})."
            )
    pair = [*fills[:1], *others[:1], *fills[1:], *others[1:]][:2]
    correlations = _of_first(select(rows, measure="rank_correlation"))
    alike = [row for row in correlations if {row.method, row.parameters["other"]} == {*pair}]
    if not alike:
        return f"Explained {under(methods[0])} alone: whether the scores show the picture or the hole cannot be told."
    found, images = mean_of(alike), len({row.parameters["image"] for row in alike})
    how = "alike" if found >= _ALIKE else "much alike" if found >= _EVEN else "differently"
    first, second = map(method_title, pair)
    return (
        f"{first} and {in_sentence(second)} rank the parts of an image {how}: rank correlation {decimal(found)} "
        f"(1: the same order, 0: unrelated; mean over {images} images)."
    )


def badly_fitted(rows: Sequence[Row], methods: Sequence[str], trusted: float) -> str:
    """Under which masking methods a surrogate describes the network badly; empty where it is so under none.

    Args:
        rows: rows of the result table.
        methods: the masking methods, in order.
        trusted: R² below which scores explain little.
    """
    fits = {each: mean_of(_of_first(select(rows, measure="r_squared", method=each))) for each in methods}
    bad = [f"{decimal(fit)} {under(each)}" for each, fit in fits.items() if fit < trusted]
    return f"The scores describe the network badly: R² is {listed(bad)}, where 1 is exact." if bad else ""


def mean_of(rows: Sequence[Row]) -> float:
    """The mean of the values that are defined, NaN where none is."""
    values = [row.value for row in rows if row.value is not None]
    return sum(values) / len(values) if values else float("nan")


def _of_first(rows: Sequence[Row]) -> list[Row]:
    """The rows of the network, explainer and segments that come first."""
    about = [(row.network, row.parameters["explainer"], row.parameters["segments"]) for row in rows]
    return [row for row, each in zip(rows, about, strict=True) if each == about[0]]
