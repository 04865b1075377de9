"""What an evaluation has found about networks that classify pixels: sentences, and a table in a terminal."""

from collections.abc import Iterator, Mapping, Sequence

from maskrobust.lm_modules.reliance.pixels import ANYWHERE, BANDS
from maskrobust.lm_modules.reliance.results import Row, select
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
    under,
)

_NAME = 30
"""Width of the terminal's column of names."""

Lines = Mapping[str, Mapping[str, Row]]
"""IoU by masking method, and pixels that change with the paint under "", each by distance to the nearest hole."""


def _tables(results: Results) -> Iterator[tuple[str, float, Lines]]:
    """Title of a network, hidden fraction, and lines; none of networks that classify images."""
    rows = [row for name in ("pixel_iou", "changed_by_paint") for row in select(results.defined, measure=name)]
    for network in results.networks:
        of_network = select(rows, network=network.name)
        for fraction in dict.fromkeys(float(row.parameters["hidden_fraction"]) for row in of_network):
            lines: dict[str, dict[str, Row]] = {}
            for row in of_network:
                if row.parameters["hidden_fraction"] == fraction:
                    lines.setdefault(row.method, {})[str(row.parameters["distance"])] = row
            yield network.title, fraction, lines


def pixels_said(results: Results) -> list[str]:
    """What each network loses beside holes, and how far the paint decides, for each hidden fraction."""
    return [sentence for table in _tables(results) for sentence in _of_table(*table)]


def _of_table(title: str, fraction: float, lines: Lines) -> Iterator[str]:
    hidden = f"with {in_words(fraction)} of the image hidden" if fraction else "with no further pixel hidden"
    whole = [
        f"{percent(of[ANYWHERE].value or 0.0)} {under(way)}" for way, of in lines.items() if way and ANYWHERE in of
    ]
    beside = {way: of for way, of in lines.items() if BANDS[0] in of}
    if not beside:
        yield f"The IoU of {title} {hidden} is {listed(whole)}."
        return
    ways = [f"{_ends(of)} {under(way)}" for way, of in beside.items() if way]
    yield f"Beside holes → far from them, {hidden}, the IoU of {title} is {listed(ways)}."
    if "" in beside:
        nearest = beside[""][BANDS[0]]
        yield (
            f"What a hole is painted with changes the class of {_ends(beside[''])} of these pixels of {title} "
            f"({BANDS[0]}: {interval(nearest.low, nearest.high, percent)}); layer masking paints nothing."
        )


def _ends(line: Mapping[str, Row]) -> str:
    """The values beside holes and the farthest from them, as in "27.3 → 84.9 %"."""
    bands = [each for each in BANDS if each in line]
    ends = [hundredths(line[each].value or 0.0) for each in dict.fromkeys((bands[0], bands[-1]))]
    return "\u00a0→\u00a0".join(ends) + PERCENT


def pixels_table(results: Results) -> Sequence[str]:
    """The table, at most 80 columns wide; empty for networks that classify images."""
    told = list[str]()
    for title, fraction, lines in _tables(results):
        bands = "".join(f"{each.removesuffix(' px'):>9}" for each in ("anywhere", *BANDS))
        told.append(f"{cut(f'{title}, {fraction:.0%} hidden', _NAME - 1):{_NAME}}{bands}")
        for method, line in lines.items():
            way = f"  IoU, {in_sentence(method_title(method))}" if method else "  changed by paint"
            cells = (line.get(each) for each in (ANYWHERE, *BANDS))
            numbers = "".join(f"{'' if row is None else hundredths(row.value or 0.0):>9}" for row in cells)
            told.append(f"{cut(way, _NAME - 1):{_NAME}}{numbers}".rstrip())
    return told
