"""Gains in log-odds: what the shape of a hole does to logits, where predictions may not move."""

import math
from functools import partial

import numpy as np

from maskrobust.lm_modules.reliance.arrays import BoolArray, FloatArray
from maskrobust.lm_modules.reliance.catalogue import measure, where_shapes
from maskrobust.lm_modules.reliance.estimates.estimation import Columns, Statistic, columns_of
from maskrobust.lm_modules.reliance.outcomes import Outcomes

_OWN, _J, _K = range(3)
"""Columns of `Outcomes.log_odds`."""

_LOGITS = (-math.inf, math.inf)

_outline = partial(measure, group="outline", unit="logits", in_training=True, compared=True)


@_outline(
    title="Outline or surroundings: gain (log-odds)",
    definition="Log-odds of the right class against all others with the object hidden along its outline, minus the "
    "same behind the enclosing circle, which hides as many pixels, paired image by image. It counts the outline and "
    "what lies between outline and circle, and sees what moves logits without changing a prediction.",
    members=where_shapes,
)
def outline_gain() -> Statistic:
    """Mean over images of what the outline adds to the log-odds of the image's class, in nats; 0 is best."""

    def columns(outcomes: Outcomes) -> Columns:
        outline, circle = (outcomes.log_odds_under(each)[:, _OWN] for each in ("silhouette", "circle"))
        return _finite(outcomes, outcomes.object_valid, outline.astype(np.float64) - circle)

    return Statistic(columns, scale=_LOGITS)


@_outline(
    title="Shape gain (log-odds)",
    definition="Shape choices in log-odds, which is the log-odds of the class whose shape the hole has, minus those "
    "of the same class behind a hole in the shape of a third class, of like area, both where the image's object was.",
    members=lambda plan: where_shapes(plan) if plan.shape_choice else (),
)
def shape_gain() -> Statistic:
    """What a shape adds to the log-odds of its class in an image of another class, in nats; 0 is best.

    The mean of 1/2 (L_j(y_j) - L_k(y_j) + L_k(y_k) - L_j(y_k)), with L_j(y) the log-odds of class y behind object j's
    silhouette.
    """

    def columns(outcomes: Outcomes) -> Columns:
        behind_j, behind_k = (outcomes.log_odds_under(each) for each in ("swap_j", "swap_k"))
        towards_j, towards_k = behind_j[:, _J] - behind_k[:, _J], behind_k[:, _K] - behind_j[:, _K]
        return _finite(outcomes, outcomes.swap_valid, (towards_j + towards_k) / 2)

    return Statistic(columns, scale=_LOGITS)


def _finite(outcomes: Outcomes, valid: BoolArray, *rows: FloatArray) -> Columns:
    return columns_of(outcomes, valid & np.isfinite(rows).all(axis=0), *rows)
