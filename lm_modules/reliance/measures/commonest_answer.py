"""Whether a network still tells anything apart behind holes: how often it gives its commonest answer there."""

from collections.abc import Sequence

import numpy as np

from maskrobust.lm_modules.reliance.catalogue import measure, where_shapes
from maskrobust.lm_modules.reliance.estimation import Estimate, Estimator
from maskrobust.lm_modules.reliance.outcomes import Outcomes


@measure(
    title="Commonest answer",
    definition="How often a network gives its commonest answer behind the silhouette and the circle. Near 1 it answers "
    "all holes alike, and measures of what it reads there mean nothing.",
    group="remains",
    unit="fraction",
    goal="low",
    asked=where_shapes,
    by_seed=False,
)
def commonest_answer() -> Estimator:
    """The fraction of the answers behind both object holes that are the most frequent one, in [1/K, 1].

    Over images with a valid object; over several runs the largest of all. Without an interval: it is no mean.
    """
    return _commonest


def _commonest(runs: Sequence[Outcomes], _replicates: int, _seed: int) -> Estimate:
    valid = runs[0].object_valid
    images, left_out = int(valid.sum()), int((~valid).sum())
    if images == 0:
        return Estimate(None, None, None, images, left_out, "undefined because no image is valid for it.")
    answers = [np.stack([run.predictions_under(hole)[valid] for hole in ("silhouette", "circle")]) for run in runs]
    largest = max(np.unique(each, return_counts=True)[1].max() / each.size for each in answers)
    return Estimate(float(largest), None, None, images, left_out)
