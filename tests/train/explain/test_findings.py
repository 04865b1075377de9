"""The sentence that heads the page of `maskrobust explain`: outcomes that are known, and what is said of each."""

from typing import Any

import pytest

from maskrobust.lm_modules.reliance.results import Row
from maskrobust.train.explain.findings import in_explanations
from tests.train.report.pages import squeezed

ALIKE = (
    "Black fill and layer masking rank the parts of an image {}: rank correlation {} (1: the same order, 0: unrelated; "
    "mean over 1 images)."
)


def scored(evenness, alike):
    """Rows of explanations: evenness by masking method, and rank correlation of two."""
    about: dict[str, Any] = {"image": "a", "explainer": "lime", "segments": "patches"}

    def row(measure, method, value, **further):
        return Row("net", method, measure, value, None, None, 20, 0, parameters=about | further)

    first, *others = evenness
    return [
        *(row("evenness", method, value) for method, value in evenness.items()),
        row("evenness", first, 1.0, explainer="occlusion"),
        *(row("rank_correlation", first, alike, other=other) for other in others),
    ], list(evenness)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            scored({"black": 0.93, "layer_masking": 0.12}, 0.1),
            "Scores under black fill show the hole, not the picture: 93% of them is the same for all segments (12% "
            "under layer masking).",
        ),
        (
            scored({"black": 0.93, "layer_masking": 0.9}, 0.95),
            ALIKE.format("alike", "0.95"),
        ),
        (
            scored({"black": 0.2, "layer_masking": 0.1}, 0.31),
            ALIKE.format("differently", "0.31"),
        ),
        (
            scored({"black": None, "layer_masking": 0.1}, None),
            "There is nothing to explain under black fill: the predictions are the same whatever is hidden.",
        ),
        (
            scored({"black": 0.9}, 0.0),
            "Explained under black fill alone: whether the scores show the picture or the hole cannot be told.",
        ),
    ],
)
def test_explanations_are_said_to_show_the_hole_only_where_that_was_measured(found, said):
    assert squeezed(in_explanations(*found)) == said
