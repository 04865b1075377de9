"""Hidden-pixel sensitivity (measure 8): the largest change of a logit when hidden pixels are redrawn."""

from collections.abc import Sequence

import numpy as np

from maskrobust.lm_modules.reliance.catalogue import measure, where_all_shapes
from maskrobust.lm_modules.reliance.estimation import Estimate, Estimator
from maskrobust.lm_modules.reliance.outcomes import Outcomes


@measure(
    title="Hidden-pixel sensitivity (logits)",
    definition="The largest change of any logit when the hidden pixels are redrawn. Exactly 0: what is hidden cannot "
    "matter.",
    group="remains",
    unit="logits",
    goal="low",
    asked=where_all_shapes,
    in_training=True,
)
def hidden_pixel_sensitivity() -> Estimator:
    """Measure 8: the largest change of any logit, over images with a valid object, when hidden pixels are redrawn.

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
