"""What a claim or an evaluation shows: an HTML page; for a claim also a table and a verdict in the terminal."""

from maskrobust.train.report.claim_page import render_claim
from maskrobust.train.report.examples import Answer, ExampleStrip, annotated_examples, example_strips
from maskrobust.train.report.predictions import with_predictions
from maskrobust.train.report.reliance_page import render_reliance
from maskrobust.train.report.spreadsheet import claim_csv, reliance_csv
from maskrobust.train.report.table import claim_table, verdict_panel

__all__ = [
    "Answer",
    "ExampleStrip",
    "annotated_examples",
    "claim_csv",
    "claim_table",
    "example_strips",
    "reliance_csv",
    "render_claim",
    "render_reliance",
    "verdict_panel",
    "with_predictions",
]
