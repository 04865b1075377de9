"""The pages of a claim and of an evaluation: each is a list of sections."""

from collections.abc import Sequence

from maskrobust.train.report.blocks import Section, prose, render_page
from maskrobust.train.report.examples import ExampleStrip, examples
from maskrobust.train.report.headline import headline
from maskrobust.train.report.results import Results
from maskrobust.train.report.sections.accuracy import accuracy, accuracy_of_classes, curves, transfer
from maskrobust.train.report.sections.claim import factorial, retention, rule, title, verdict
from maskrobust.train.report.sections.measures import definitions, differences, measures
from maskrobust.train.report.sections.run import run
from maskrobust.train.report.sections.shares import against_layer_masking, margins, pairs, shares

CLAIM: tuple[Section[Results], ...] = (
    Section("factorial", "Every training under every masking method", factorial),
    Section("retention", "Accuracy with patches hidden, and reliance on the outline", retention),
    Section("compared", "Comparisons behind the verdicts", against_layer_masking),
    Section("rule", "The question, and the rule stated beforehand", rule),
    Section("measures", "Every arm under every masking method, in numbers", measures),
    Section("curves", "How accuracy falls as more is hidden", curves),
    Section("transfer", "Masks that were trained on, and masks never seen", transfer),
)
"""What a claim's page shows, before its examples."""

RELIANCE: tuple[Section[Results], ...] = (
    Section("accuracy", "Accuracy by hidden fraction", accuracy),
    Section("classes", "Accuracy of each class", accuracy_of_classes),
    Section("outlines", "Reliance on the outline of the hole", shares),
    Section("compared", "Which network relies less on outlines", pairs),
    Section("measures", "Every network under every masking method", measures),
    Section("differences", "Differences from the first network", differences),
    Section("margins", "The leak with a margin around the object", margins),
    Section("curves", "How accuracy falls as more is hidden", curves),
    Section("transfer", "Masks that were trained on, and masks never seen", transfer),
)
"""What an evaluation's page shows, before its examples."""

_LAST: tuple[Section[Results], ...] = (
    Section("definitions", "What is measured", definitions),
    Section("run", "How it was run", run),
)


def render_claim(results: Results, shown: Sequence[ExampleStrip]) -> str:
    """The page of a claim: verdict, rule, charts, tables, pictures, definitions, settings, and claim.json itself.

    Args:
        results: of a claim. Sections on curves and on transfer are left out where it has none.
        shown: what `example_strips` returns; may be empty.

    Returns:
        HTML as that of `render_page`.

    Raises:
        ValueError: a claim holds a number that is not finite.
    """
    sections = (*CLAIM, examples(shown), *_LAST)
    return render_page("claim", title(results), verdict(results), sections, results)


def render_reliance(results: Results, shown: Sequence[ExampleStrip]) -> str:
    """The page of an evaluation: accuracy, which network relies least on outlines, every number, reliance.json itself.

    Args:
        results: of an evaluation. Sections on pairs, differences, curves and transfer are left out where it has none.
        shown: what `example_strips` returns; may be empty.

    Returns:
        HTML as that of `render_page`.

    Raises:
        ValueError: an evaluation holds a number that is not finite.
    """
    sections = (*RELIANCE, examples(shown), *_LAST)
    first, *further = headline(results)
    header = prose("reliance_header", first=first, further=further, left_out=results.content["settings"]["left_out"])
    return render_page("evaluate", first, header, sections, results)
