"""Predictions behind holes: the most frequent one, and how they depend on hidden pixels."""

from collections.abc import Sequence

import numpy as np

from maskrobust.lm_modules.reliance.catalogue import measure, where_named, where_shapes
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


@measure(
    title="Hidden-pixel sensitivity (logits)",
    definition="The largest change of any logit when the hidden pixels are redrawn. At exactly 0 they have no effect.",
    group="remains",
    unit="logits",
    goal="low",
    members=where_named("hidden_pixel_sensitivity"),
    in_training=True,
)
def hidden_pixel_sensitivity() -> Estimator:
    """The largest change of any logit, over images with a valid object, when hidden pixels are redrawn.

    At least 0, in units of a logit; over several runs the largest of all.
    """
    return _largest_change


def _largest_change(runs: Sequence[Outcomes], _replicates: int, _seed: int) -> Estimate:
    valid = runs[0].object_valid
    changes = np.stack([run.sensitivity[valid] for run in runs])
    images, left_out = int(valid.sum()), int((~valid).sum())
    if images == 0:
        reason = "undefined because no image is valid for it."
    elif not np.isfinite(changes).all():
        reason = "undefined because a logit is not finite."
    else:
        return Estimate(float(changes.max()), None, None, images, left_out)
    return Estimate(None, None, None, images, left_out, reason)
