"""How far outlines are read: the used share of every network under every masking method, or its scene share."""

from markupsafe import Markup

from maskrobust.lm_modules.reliance.catalogue import HEADLINE, SCENE_SHARE, catalogue
from maskrobust.lm_modules.reliance.results import only, select
from maskrobust.train.report.blocks import Cell, prose, table
from maskrobust.train.report.results import Results
from maskrobust.train.report.tables import bar_groups, inline
from maskrobust.train.report.wording import method_title

_ABOUT = {
    HEADLINE: "The used share: at zero (dashed) outlines are not read, at 1 they are read as well as by a network that "
    "sees nothing else; below zero they are read and mislead.",
    SCENE_SHARE: "The scene share: at zero (dashed) the outline of a hole in a picture without objects is not felt, at "
    "1 it tells two classes apart as well as the objects do. The used share is undefined under every masking method.",
}


def shares(results: Results) -> Markup:
    """Intervals by masking method; of the scene share where that alone is defined."""
    scenes, used = (
        any(row.value is not None for row in select(results.over_seeds, measure=measure))
        for measure in (SCENE_SHARE, HEADLINE)
    )
    measure = SCENE_SHARE if scenes and not used else HEADLINE
    rows = [row for method in results.methods for row in select(results.over_seeds, measure=measure, method=method)]
    settings = results.content["settings"]
    text = prose(
        "shares",
        unlabelled=settings["labels"] != "of the data",
        about=_ABOUT[measure],
        source=settings["probe"],
        probe=inline(only(results.rows, network="", measure="probe_accuracy")),
        over="images" if measure == HEADLINE else "objects",
    )
    lines = [
        (method_title(row.method), [results.network(row.network)], row, [Cell(row.reading, look="words")])
        for row in rows
    ]
    headings = ["Method and network", catalogue()[measure].title, "Interval and zero", "Reading"]
    return text + table("shares", "Shares", headings, bar_groups(lines), look="comparisons")
