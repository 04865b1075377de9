"""What a claim shows a person: an HTML page, and a table and a verdict for the terminal."""

from train.report.examples import ExampleStrip, annotated_examples, example_strips
from train.report.page import render_claim
from train.report.table import claim_table, verdict_panel

__all__ = ["ExampleStrip", "annotated_examples", "claim_table", "example_strips", "render_claim", "verdict_panel"]
