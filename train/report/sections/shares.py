"""How far outlines are read: the used share of every network under every masking method, and the leak by margin."""

from markupsafe import Markup

from maskrobust.lm_modules.reliance.catalogue import HEADLINE, OUTLINE_PULL, catalogue
from maskrobust.lm_modules.reliance.results import only, select
from maskrobust.train.report.blocks import Cell, legend, panels, prose, table
from maskrobust.train.report.charts import charts_by_method
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


def margins(results: Results) -> Markup | None:
    """A chart for each masking method; None where the leak was measured with fewer than two margins."""
    rows = [row for row in select(results.over_seeds, measure="margin_leak") if row.value is not None]
    if len({row.parameters["margin"] for row in rows}) < 2:
        return None
    ends = [end for row in rows for end in (row.low, row.value, row.high) if end is not None]
    spare = 0.05 * (max(ends) - min(ends)) or 0.01
    limits = min(*ends, 0.0) - spare, max(*ends, 0.0) + spare
    x_label, label = "Margin around the object (pixels)", "Chart: leak against the margin around the object"
    look = {"percent": False, "limits": limits}
    charts = charts_by_method(results, rows, "margin", "margins", x_label, "Leak", label=label, **look)
    caption = prose("margins", legend=legend(results.networks))
    return panels(charts, caption)
