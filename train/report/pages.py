"""The report pages of a claim and of an evaluation, each a list of sections."""

from collections.abc import Sequence

from markupsafe import Markup

from maskrobust.train.report.blocks import Section, prose, render_page
from maskrobust.train.report.examples import ExampleStrip, examples
from maskrobust.train.report.exchanged import ExchangedImage, exchanged_block
from maskrobust.train.report.headline import said
from maskrobust.train.report.own_holes_said import own_holes_block
from maskrobust.train.report.pixels import pixels_said
from maskrobust.train.report.results import Results
from maskrobust.train.report.sections.claim import in_claim, rule, verdict
from maskrobust.train.report.sections.curve_charts import curves
from maskrobust.train.report.sections.doses import doses
from maskrobust.train.report.sections.grid import grid
from maskrobust.train.report.sections.run import run
from maskrobust.train.report.tables import numbers


def _further(shown: Sequence[ExampleStrip]) -> tuple[Section[Results], ...]:
    return (
        Section("all", "All numbers", numbers),
        Section("curves", "How accuracy falls as more is hidden", curves),
        Section("examples", "What the network is shown", lambda _: examples(shown)),
        Section("run", "How it was run", run),
    )


def render_claim(results: Results, shown: Sequence[ExampleStrip]) -> str:
    """The page of a claim: verdicts, grid, doses, rule, every number, curves, pictures, and how it was run.

    Args:
        results: the results of a claim. The sections on doses and on curves are left out where it has none.
        shown: what `example_strips` returns; may be empty.

    Returns:
        HTML as that of `render_page`.
    """
    by_dose = Section("doses", "Shape choices by how many training images had a hole", doses, is_open=True)
    sections = (by_dose, Section("rule", "The question, and the rule stated beforehand", rule), *_further(shown))
    return render_page("claim", " ".join(in_claim(results)), verdict(results, shown), sections, results)


def render_reliance(results: Results, shown: Sequence[ExampleStrip], exchanged: Sequence[ExchangedImage] = ()) -> str:
    """The page of an evaluation: headline, own holes, grid, every number, pictures, and how it was run.

    Args:
        results: the results of an evaluation. The section on curves is left out where it has none.
        shown: what `example_strips` returns; may be empty.
        exchanged: what `draw_exchanged` returns.

    Returns:
        HTML as that of `render_page`.
    """
    first, *remarks = said(results)
    own = own_holes_block(results) + exchanged_block(results, exchanged)
    below = Markup() if pixels_said(results) else own + grid(results, shown)
    header = prose("headline", first=first, remarks=remarks) + below
    return render_page("evaluate", first, header, _further(shown), results)
