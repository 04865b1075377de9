"""What a claim or an evaluation shows: an HTML page, and tables in the terminal."""

from maskrobust.train.report.examples import (
    ExampleStrip as ExampleStrip,
    Prediction as Prediction,
    annotated_examples as annotated_examples,
    example_strips as example_strips,
    joined_strips as joined_strips,
    with_predictions as with_predictions,
)
from maskrobust.train.report.headline import headline as headline
from maskrobust.train.report.pages import render_claim as render_claim, render_reliance as render_reliance
from maskrobust.train.report.results import Results as Results
from maskrobust.train.report.terminal import results_table as results_table, verdict_panel as verdict_panel
