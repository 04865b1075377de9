"""What a claim or an evaluation shows: an HTML page, and tables in the terminal."""

from maskrobust.train.report.comparisons import headline
from maskrobust.train.report.examples import (
    Answer,
    ExampleStrip,
    annotated_examples,
    example_strips,
    joined_strips,
    with_predictions,
)
from maskrobust.train.report.pages import render_claim, render_reliance
from maskrobust.train.report.results import Results
from maskrobust.train.report.terminal import results_table, verdict_panel

__all__ = [
    "Answer",
    "ExampleStrip",
    "Results",
    "annotated_examples",
    "example_strips",
    "headline",
    "joined_strips",
    "render_claim",
    "render_reliance",
    "results_table",
    "verdict_panel",
    "with_predictions",
]
