"""How far outlines are read: the used share of every network under every masking method, or its outline pull."""

from markupsafe import Markup

from maskrobust.lm_modules.reliance.catalogue import HEADLINE, OUTLINE_PULL, catalogue
from maskrobust.lm_modules.reliance.results import only, select
from maskrobust.train.report.blocks import Cell, prose, table
from maskrobust.train.report.results import Results
from maskrobust.train.report.tables import bar_groups, inline
from maskrobust.train.report.wording import method_title


def shares(results: Results) -> Markup:
    """Intervals by masking method; of the outline pull where that alone is defined; or what was not asked, and why."""
    pulls, used = (
        any(row.value is not None for row in select(results.over_seeds, measure=measure))
        for measure in (OUTLINE_PULL, HEADLINE)
    )
    measure = OUTLINE_PULL if pulls and not used else HEADLINE
    rows = [row for method in results.methods for row in select(results.over_seeds, measure=measure, method=method)]
    settings = results.content["settings"]
    text = prose(
        "shares",
        unlabelled=settings["labels"] != "of the data",
        source=settings["probe"],
        probe=inline(only(results.rows, network="", measure="probe_accuracy")),
        is_used_share=measure == HEADLINE,
        left_out=settings["left_out"],
        is_asked=bool(rows),
    )
    if not rows:
        return text
    lines = [
        (method_title(row.method), [results.network(row.network)], row, [Cell(row.reading, look="words")])
        for row in rows
    ]
    headings = ["Method and network", catalogue()[measure].title, "Interval and zero", "Reading"]
    return text + table("shares", "Shares", headings, bar_groups(lines), look="comparisons")
