"""Class information (measure 7): what features tell of the class in bits, which many classes leave room for."""

from collections.abc import Sequence

import numpy as np

from maskrobust.lm_modules.reliance.arrays import BoolArray
from maskrobust.lm_modules.reliance.catalogue import Parameters, measure
from maskrobust.lm_modules.reliance.estimation import Columns, Statistic, columns_of, difference_of_means
from maskrobust.lm_modules.reliance.features import FEATURE_HOLES, FeatureHole, feature_key
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.plan import ReliancePlan

_NOT_KEPT = "undefined because these answers were kept without it; measure again."


def _each_layer(plan: ReliancePlan) -> Sequence[Parameters]:
    return [{}, *({"layer": layer} for layer in plan.layers)] if plan.features and plan.shapes else ()


def _each_hole(plan: ReliancePlan) -> Sequence[Parameters]:
    return [{"hole": hole, **layer} for layer in _each_layer(plan) for hole in FEATURE_HOLES]


@measure(
    title="Feature bits behind {hole}",
    definition="What the features behind this hole tell of the class, in bits: the entropy of the classes minus the "
    "log loss of a linear probe on other images than it was fitted to: a lower bound of their mutual information, 0 "
    "where they tell nothing, at most the entropy of the classes. It sees what a probe knows that is hardly ever "
    "right, as with many classes.",
    group="information",
    unit="bits",
    goal="low",
    asked=_each_hole,
    by_seed=False,
)
def feature_bits(hole: FeatureHole, layer: str | None = None) -> Statistic:
    """Measure 7: mean of `pointwise_information` behind one hole, in bits, over valid objects.

    The outcomes must have been through `with_feature_predictions`. Intervals take fitted probes and the classes'
    frequencies as they are.

    Args:
        hole: "silhouette" or "circle".
        layer: path of a module whose output, averaged over (visible) positions, is read; None for the penultimate
            features.
    """
    return Statistic(lambda outcomes: _columns(outcomes, feature_key(hole, layer)))


@measure(
    title="Carried, bits",
    definition="Feature bits behind the silhouette minus those behind the circle: carried information on a scale that "
    "also holds where many classes leave accuracies at chance.",
    group="information",
    unit="bits",
    asked=_each_layer,
    by_seed=False,
)
def carried_bits(layer: str | None = None) -> Statistic:
    """Measure 7: the probe's log loss behind the circle minus that behind the silhouette, in bits, paired."""
    keys = [feature_key(hole, layer) for hole in FEATURE_HOLES]
    return Statistic(lambda outcomes: _columns(outcomes, *keys), difference_of_means)


def _columns(outcomes: Outcomes, *keys: str) -> Columns:
    unknown = np.full(len(outcomes), np.nan)
    rows = [outcomes.information.get(key, unknown) for key in keys]
    counted: BoolArray = np.all(np.isfinite(rows), axis=0)
    columns = columns_of(outcomes, counted, *rows)
    return columns if outcomes.information else columns._replace(none_because=_NOT_KEPT)
