"""What an evaluation has found about networks that classify pixels: sentences, and a table."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from markupsafe import Markup

from maskrobust.lm_modules.reliance.pixels import ANYWHERE, BANDS
from maskrobust.lm_modules.reliance.results import Row, select
from maskrobust.train.report.blocks import Cell, Line, prose, table
from maskrobust.train.report.results import Results
from maskrobust.train.report.wording import (
    PERCENT,
    cut,
    hundredths,
    in_sentence,
    in_words,
    interval,
    listed,
    method_title,
    percent,
    percents,
    under,
)

_NAME = 30
"""Width of the terminal's column of names."""

HEADINGS = ("anywhere", *BANDS)
"""Headings of the columns, in the order of distances."""


class PixelLine(NamedTuple):
    """A network under a way of hiding with a fraction of the image hidden.

    Attributes:
        title: the network's.
        method: the masking method; empty for pixels that change with the paint.
        fraction: the hidden fraction.
        rows: IoU, or the fraction of pixels that change, by distance to the nearest hole, where it is defined.
    """

    title: str
    method: str
    fraction: float
    rows: Mapping[str, Row]


def pixel_lines(results: Results) -> list[PixelLine]:
    """Every line, by network, hidden fraction and way of hiding; none of networks that classify images."""
    found: dict[tuple[str, float, str], dict[str, Row]] = {}
    for measure in ("pixel_iou", "changed_by_paint"):
        for row in select(results.defined, measure=measure):
            key = (results.network(row.network).title, float(row.parameters["hidden_fraction"]), row.method)
            found.setdefault(key, {})[str(row.parameters["distance"])] = row
    order = [network.title for network in results.networks]
    ordered = sorted(found.items(), key=lambda item: (order.index(item[0][0]), item[0][1]))
    return [PixelLine(title, method, fraction, rows) for (title, fraction, method), rows in ordered]


def pixels_said(results: Results) -> list[str]:
    """What each network loses beside holes, and how far paint decides, with the hidden fraction nearest to half."""
    lines = pixel_lines(results)
    return [sentence for network in results.networks for sentence in _of_network(network.title, lines)]


def _of_network(title: str, lines: list[PixelLine]) -> Iterator[str]:
    own = [line for line in lines if line.title == title]
    fraction = min({line.fraction for line in own}, key=lambda each: (abs(each - 0.5), each), default=0.0)
    some = [line for line in own if line.fraction == fraction]
    hidden = f"with {in_words(fraction)} of the image hidden" if fraction else "with only pixels without data hidden"
    ways = [f"{_ends(line)} {under(line.method)}" for line in some if line.method and BANDS[0] in line.rows]
    whole = [line.rows[ANYWHERE] for line in own if line.method and line.fraction == 0.0 and ANYWHERE in line.rows]
    clean = f"{percents(whole[0].value or 0.0)} with no further pixel hidden" if whole else ""
    if ways:
        rest = f" ({clean})" if clean else ""
        yield f"Beside holes → far from them, {hidden}, the IoU of {title} is {listed(ways)}{rest}."
    elif clean:
        yield f"The IoU of {title} is {clean}."
    for line in some:
        if not line.method and BANDS[0] in line.rows:
            beside = line.rows[BANDS[0]]
            between = interval(beside.low, beside.high, percent)
            yield (
                f"What a hole is painted with changes the class of {_ends(line)} of these pixels of {title} "
                f"({BANDS[0]}: {between}); layer masking paints nothing."
            )


def _ends(line: PixelLine) -> str:
    """The values beside holes and the farthest from them, as in "27.3 → 84.9 %"."""
    bands = [each for each in BANDS if each in line.rows]
    ends = [hundredths(line.rows[each].value or 0.0) for each in dict.fromkeys((bands[0], bands[-1]))]
    return "\u00a0→\u00a0".join(ends) + PERCENT


def pixels_table(results: Results) -> list[str]:
    """The table in a terminal, at most 80 columns wide; none of networks that classify images."""
    found, lines, above = pixel_lines(results), list[str](), None
    if found:
        lines.append(f"{f'IoU in{PERCENT}':{_NAME}}" + "".join(f"{each.removesuffix(' px'):>9}" for each in HEADINGS))
    for line in found:
        if (line.title, line.fraction) != above:
            above = line.title, line.fraction
            rest = f", {percents(line.fraction)} hidden" if line.fraction else ", no further pixel hidden"
            lines.append(f"{cut(line.title, _NAME)}{rest}")
        way = in_sentence(method_title(line.method)) if line.method else "changed by paint"
        cells = (line.rows.get(each) for each in (ANYWHERE, *BANDS))
        numbers = "".join(f"{'' if row is None else hundredths(row.value or 0.0):>9}" for row in cells)
        lines.append(f"{cut(f'  {way}', _NAME - 1):{_NAME}}{numbers}".rstrip())
    return lines


def pixels_block(results: Results) -> Markup:
    """The table on a page; nothing of networks that classify images."""
    lines = [
        Line(
            line.title,
            [
                Cell(percent(line.fraction)),
                Cell(method_title(line.method) if line.method else "Pixels that change with the paint"),
                *(
                    Cell(percent(row.value or 0.0), interval(row.low, row.high, percent)) if row else Cell()
                    for row in (line.rows.get(each) for each in (ANYWHERE, *BANDS))
                ),
            ],
        )
        for line in pixel_lines(results)
    ]
    if not lines:
        return Markup()
    headings = ("Network", "Hidden", "Way of hiding", *(each.capitalize() for each in HEADINGS))
    return prose("pixels", table=table("pixels", "IoU by distance to the nearest hole", headings, lines))
