"""The report pages of a claim and of an evaluation, each a list of sections."""

from collections.abc import Sequence

from maskrobust.train.report.blocks import Section, render_page
from maskrobust.train.report.examples import ExampleStrip, examples
from maskrobust.train.report.findings import in_evaluation
from maskrobust.train.report.results import Results
from maskrobust.train.report.sections.accuracy import accuracy_of_classes, curves, transfer
from maskrobust.train.report.sections.claim import factorial, in_claim, pairs_of_the_rule, rule, verdict
from maskrobust.train.report.sections.found import found
from maskrobust.train.report.sections.measures import (
    accuracy,
    definitions,
    measures,
    outlines,
    pairs,
)
from maskrobust.train.report.sections.run import run

CLAIM: tuple[Section[Results], ...] = (
    Section("factorial", "Every training under every masking method", factorial, is_open=True),
    Section("compared", "Pairs of an arm and a fill behind the verdicts", pairs_of_the_rule),
    Section("rule", "The question, and the rule stated beforehand", rule),
    Section("accuracy", "Accuracy", accuracy),
    Section("measures", "All other measures", measures),
    Section("curves", "How accuracy falls as more is hidden", curves),
    Section("transfer", "Accuracy by mask family", transfer),
)
"""What a claim's page shows, before its examples."""

RELIANCE: tuple[Section[Results], ...] = (
    Section("accuracy", "Accuracy", accuracy, is_open=True),
    Section("outlines", "Reliance on the outline of the hole", outlines),
    Section("compared", "Which network relies less on outlines", pairs),
    Section("classes", "Accuracy of each class", accuracy_of_classes),
    Section("curves", "How accuracy falls as more is hidden", curves),
    Section("measures", "All other measures", measures),
    Section("transfer", "Accuracy by mask family", transfer),
)
"""What an evaluation's page shows, before its examples."""

_LAST: tuple[Section[Results], ...] = (
    Section("definitions", "What is measured", definitions),
    Section("run", "How it was run", run),
)


def render_claim(results: Results, shown: Sequence[ExampleStrip]) -> str:
    """The page of a claim: verdict, rule, charts, tables, pictures, definitions, settings, and claim.json itself.

    Args:
        results: the results of a claim. Sections on curves and on transfer are left out where it has none.
        shown: what `example_strips` returns; may be empty.

    Returns:
        HTML as that of `render_page`.

    Raises:
        ValueError: a claim holds a number that is not finite.
    """
    sections = (*CLAIM, examples(shown), *_LAST)
    return render_page("claim", " ".join(in_claim(results)), verdict(results), sections, results)


def render_reliance(results: Results, shown: Sequence[ExampleStrip]) -> str:
    """The page of an evaluation: accuracy, which network relies least on outlines, every number, reliance.json itself.

    Args:
        results: the results of an evaluation. Sections on pairs, curves and transfer are left out where it has none.
        shown: what `example_strips` returns; may be empty.

    Returns:
        HTML as that of `render_page`.

    Raises:
        ValueError: an evaluation holds a number that is not finite.
    """
    sections = (*RELIANCE, examples(shown), *_LAST)
    return render_page("evaluate", in_evaluation(results), found(results, shown), sections, results)
