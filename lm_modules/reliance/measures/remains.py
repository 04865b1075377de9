"""Predictions behind holes: the most frequent one."""

from collections.abc import Sequence

import numpy as np

from maskrobust.lm_modules.reliance.catalogue import measure, where_shapes
from maskrobust.lm_modules.reliance.estimates.estimation import Estimate, Estimator
from maskrobust.lm_modules.reliance.measures.accuracy import NEARLY_ONE
from maskrobust.lm_modules.reliance.outcomes import Outcomes


@measure(
    title="Commonest prediction",
    definition="How often a network makes its commonest prediction behind the silhouette and the circle. From "
    f"{100 * NEARLY_ONE:.0f}\u202f% on it predicts (nearly) the same for all holes, and the used share means nothing; "
    "the verdict then says so.",
    group="remains",
    unit="fraction",
    goal="low",
    members=where_shapes,
    by_seed=False,
)
def commonest_answer() -> Estimator:
    """The fraction of predictions behind both object holes that are the most frequent one, in [1/K, 1].

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
