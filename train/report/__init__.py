"""What a claim or an evaluation shows: an HTML page; for a claim also a table and a verdict in the terminal."""

from train.report.claim_page import render_claim
from train.report.examples import Answer, ExampleStrip, annotated_examples, example_strips
from train.report.predictions import with_predictions
from train.report.reliance_page import render_reliance
from train.report.spreadsheet import claim_csv, reliance_csv
from train.report.table import claim_table, verdict_panel

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
