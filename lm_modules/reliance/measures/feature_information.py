"""What a network's features behind a hole tell of the class: of all classes and of each."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from maskrobust.lm_modules.reliance.arrays import BoolArray
from maskrobust.lm_modules.reliance.catalogue import Parameters, measure
from maskrobust.lm_modules.reliance.estimates.estimation import (
    Columns,
    Statistic,
    columns_of,
    difference_of_means,
    right_answers,
)
from maskrobust.lm_modules.reliance.features import (
    FEATURE_HOLES,
    FeatureHole,
    FeatureProbe,
    feature_condition,
    feature_key,
)
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.plan import ReliancePlan

_NOT_KEPT = "undefined because these answers were kept without it; measure again."


def _each_layer(plan: ReliancePlan) -> Sequence[Parameters]:
    """The penultimate features, which need no name, then those of the plan's layers."""
    return [{}, *({"layer": layer} for layer in plan.layers)] if plan.features and plan.shapes else ()


_of_features = partial(measure, group="remains", members=_each_layer, by_seed=False)


@_of_features(
    title="Features behind silhouette",
    definition="Accuracy of a linear probe, trained on the features behind this hole and tested on other images: the "
    "penultimate features, or those of a layer, averaged over positions.",
    unit="fraction",
    goal="low",
)
def features_silhouette(layer: str | None = None) -> Statistic:
    """Measure 7: accuracy of a linear probe on the features behind the silhouette, in [0, 1], over valid objects.

    The outcomes must have been through `with_feature_predictions`; the columns raise InputError otherwise. Intervals
    take the fitted probes as they are.

    Args:
        layer: path of a module whose output, averaged over (visible) positions, is read; None for the penultimate
            features.
    """
    return Statistic(lambda outcomes: right_answers(outcomes, feature_condition("silhouette", layer)))


@_of_features(
    title="Features behind circle",
    definition="The same behind the circle.",
    unit="fraction",
    goal="low",
)
def features_circle(layer: str | None = None) -> Statistic:
    """Measure 7: accuracy of a linear probe on the features behind the circle; see `features_silhouette`."""
    return Statistic(lambda outcomes: right_answers(outcomes, feature_condition("circle", layer)))


@_of_features(
    title="Carried information",
    definition="Feature accuracy behind the silhouette minus that behind the circle: how much of the outline the "
    "features still hold, whether the network uses it or not.",
    in_training=True,
)
def carried_information(layer: str | None = None) -> Statistic:
    """Measure 7: accuracy of the probe behind the silhouette minus that behind the circle, in [-1, 1], paired.

    0 where the features hold nothing of the outline that they do not hold of its circle. See `features_silhouette`.
    """
    return _carried(layer, "linear")


@_of_features(
    title="Carried, MLP",
    definition="Carried information as a probe with a hidden layer finds it in place of the linear one: also what the "
    "features hold of the outline in a way that no linear head could read.",
)
def carried_mlp(layer: str | None = None) -> Statistic:
    """Measure 7: accuracy of an MLP behind the silhouette minus that behind the circle, in [-1, 1], paired.

    See `features_silhouette` and `cross_validated_probabilities`.
    """
    return _carried(layer, "mlp")


@_of_features(
    title="Carried, neighbours",
    definition="The same with a probe of the five nearest neighbours.",
)
def carried_neighbours(layer: str | None = None) -> Statistic:
    """Measure 7: accuracy of the nearest neighbours behind the silhouette minus that behind the circle, in [-1, 1].

    See `features_silhouette` and `cross_validated_probabilities`.
    """
    return _carried(layer, "neighbours")


def _carried(layer: str | None, probe: FeatureProbe) -> Statistic:
    conditions = [feature_condition(hole, layer, probe) for hole in FEATURE_HOLES]
    return Statistic(lambda outcomes: right_answers(outcomes, *conditions), difference_of_means)


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
    members=_each_hole,
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
    members=_each_layer,
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
