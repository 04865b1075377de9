"""The report pages of a claim and of an evaluation, each a list of sections."""

from collections.abc import Sequence

from maskrobust.train.report.blocks import Section, render_page
from maskrobust.train.report.examples import ExampleStrip, examples
from maskrobust.train.report.headline import headline
from maskrobust.train.report.results import Results
from maskrobust.train.report.sections.claim import every_arm, in_claim, pairs_of_the_rule, rule, verdict
from maskrobust.train.report.sections.curves import curves
from maskrobust.train.report.sections.grid import grid
from maskrobust.train.report.sections.run import run
from maskrobust.train.report.tables import numbers

CLAIM: tuple[Section[Results], ...] = (
    Section("arms", "Every training under every masking method", every_arm, is_open=True),
    Section("compared", "Pairs of an arm and a fill behind the verdicts", pairs_of_the_rule),
    Section("rule", "The question, and the rule stated beforehand", rule),
)
"""What a claim's page shows ahead of what all pages show."""


def _further(shown: Sequence[ExampleStrip]) -> tuple[Section[Results], ...]:
    return (
        Section("all", "All numbers", numbers),
        Section("curves", "How accuracy falls as more is hidden", curves),
        examples(shown),
        Section("run", "How it was run", run),
    )


def render_claim(results: Results, shown: Sequence[ExampleStrip]) -> str:
    """The page of a claim: verdict, rule, charts, all numbers, pictures, settings, and claim.json itself.

    Args:
        results: the results of a claim. The section on curves is left out where it has none.
        shown: what `example_strips` returns; may be empty.

    Returns:
        HTML as that of `render_page`.

    Raises:
        ValueError: a claim holds a number that is not finite.
    """
    sections = (*CLAIM, *_further(shown))
    return render_page("claim", " ".join(in_claim(results)), verdict(results), sections, results)


def render_reliance(results: Results, shown: Sequence[ExampleStrip]) -> str:
    """The page of an evaluation: headline, grid of networks and ways of hiding, every number, reliance.json itself.

    Args:
        results: the results of an evaluation. The section on curves is left out where it has none.
        shown: what `example_strips` returns; may be empty.

    Returns:
        HTML as that of `render_page`.

    Raises:
        ValueError: an evaluation holds a number that is not finite.
    """
    return render_page("evaluate", headline(results), grid(results, shown), _further(shown), results)
