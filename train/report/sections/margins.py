"""The leak against the margin that is hidden around the object: a panel for each masking method."""

from markupsafe import Markup

from maskrobust.lm_modules.reliance.results import select
from maskrobust.train.report.blocks import legend, panels, prose
from maskrobust.train.report.charts import Curve, line_chart
from maskrobust.train.report.results import Results
from maskrobust.train.report.wording import method_title


def margins(results: Results) -> Markup | None:
    """A chart for each masking method; None where the leak was measured with fewer than two margins."""
    rows = [row for row in select(results.over_seeds, measure="margin_leak") if row.value is not None]
    if len({row.parameters["margin"] for row in rows}) < 2:
        return None
    ends = [end for row in rows for end in (row.low, row.value, row.high) if end is not None]
    spare = 0.05 * (max(ends) - min(ends)) or 0.01
    limits = min(*ends, 0.0) - spare, max(*ends, 0.0) + spare
    charts = []
    for place, method in enumerate(results.methods):
        curves = [
            Curve.of(select(rows, method=method, network=each.name), "margin", each.colour, str(each.number))
            for each in results.networks
        ]
        charts.append(
            line_chart(
                curves,
                f"margins-{place}",
                method_title(method),
                "Margin around the object (pixels)",
                "Leak",
                label="Chart: leak against the margin around the object",
                percent=False,
                limits=limits,
            )
        )
    caption = prose("margins", legend=legend(results.networks))
    return panels(charts, caption)
