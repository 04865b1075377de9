"""The leak against the margin that is hidden around the object: a panel for each masking method."""

from markupsafe import Markup

from maskrobust.lm_modules.reliance.results import select
from maskrobust.train.report.blocks import legend, panels, prose
from maskrobust.train.report.charts import charts_by_method
from maskrobust.train.report.results import Results


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
