"""Shape choices and leak: what the outline of a hole does to predictions, and the gain, what it does to logits."""

import math

import numpy as np
from numpy.typing import NDArray

from maskrobust.lm_modules.reliance.arrays import FloatArray
from maskrobust.lm_modules.reliance.catalogue import HEADLINE, measure, where_shapes
from maskrobust.lm_modules.reliance.estimates.estimation import Columns, Statistic, columns_of, right_answers
from maskrobust.lm_modules.reliance.outcomes import Outcomes

_J, _K = 1, 2
"""Columns of `Outcomes.log_odds`."""

TWO_CLASSES = (
    "Shape cannot be told from surroundings: the data have two classes, and no empty scene was asked about; give data "
    "whose empty_scenes returns some, and scenes above 0 in the plan."
)
"""Why there are no shape choices where there is no third class, and no empty scene."""


@measure(
    title="Outline or surroundings: leak",
    definition="Silhouette accuracy minus circle accuracy, paired image by image, in points. Both holes remove the "
    "whole object. Only the first has its outline, and shows what lies between outline and circle. So it counts both.",
    group="outline",
    unit="points",
    members=where_shapes,
    in_training=True,
    compared=True,
)
def silhouette_leak() -> Statistic:
    """Mean of 1[right behind the silhouette] - 1[right behind the circle], in [-1, 1]."""
    return Statistic(
        lambda outcomes: right_answers(outcomes, "silhouette", "circle"),
        lambda means: means[..., 0] - means[..., 1],
        scale=(-1.0, 1.0),
    )


@measure(
    title="Shape choices",
    name=HEADLINE,
    definition="The object of a picture is taken away, what lies beside it is mirrored in its place, and two holes of "
    "like area, in the shapes of two objects of two other classes, are cut there in turn. The choice is right if of "
    "these two classes the network prefers that of the hole's shape. 50\u202f%: it is blind to the shape. 100\u202f%: "
    "the shape always decides. Below 50\u202f% it misleads. Neither the object nor what lies beside it, the place of a "
    "hole, the scale of logits or the number and balance of classes plays a part. With two classes the same is asked "
    "in empty scenes. Intervals are over pictures and outlines.",
    group="outline",
    unit="fraction",
    goal="none",
    members=lambda plan: where_shapes(plan) if plan.shape_choice else (),
    in_training=True,
    compared=True,
)
def shape_choice() -> Statistic:
    """The mean of `choices` over images, in [0, 1]; 1/2 is blind."""
    return Statistic(choices)


def choices(outcomes: Outcomes) -> Columns:
    """Of two classes, how often a network prefers that of the hole's shape: (1, N) in {0, 1/4, 1/2, 3/4, 1}.

    It is 1/2 (1[m_j > 0] + 1[m_k < 0]), ties counting one half, with m the logit of y_j minus that of y_k behind a hole
    in the shape of object j, and of object k. With two classes there is no third one: then the rows are pairs of
    objects in empty scenes, j and k being of the two classes, and the scene stands for the image.
    """
    if outcomes.num_classes == 2:
        return _choices_in_scenes(outcomes)
    odds = np.stack([outcomes.log_odds_under(hole)[:, 1:] for hole in ("swap_j", "swap_k")])
    counted = outcomes.swap_valid & np.isfinite(odds).all(axis=(0, 2))
    logs = -np.logaddexp(0.0, -np.where(counted[:, np.newaxis], odds, 0.0).astype(np.float64))
    outlines = np.stack([outcomes.swap_object_j, outcomes.swap_object_k], axis=1)[counted]
    return columns_of(outcomes, counted, _right(*(logs[..., 0] - logs[..., 1])))._replace(outlines=outlines)


def _choices_in_scenes(outcomes: Outcomes) -> Columns:
    scenes = outcomes.scenes
    if scenes is None or 0 in (len(scenes.pairs), len(scenes.kinds)):
        nothing = columns_of(outcomes, np.zeros(len(outcomes), dtype=np.bool_), np.empty(len(outcomes)))
        return nothing._replace(undefined_because=TWO_CLASSES)
    logits, asked = scenes.logits[scenes.pairs], scenes.columns[scenes.pairs]  # (P, 2, S, K), (P, 2)
    of_classes = np.take_along_axis(logits, asked[:, np.newaxis, np.newaxis], axis=3)
    right = _right(*np.moveaxis(of_classes[..., 0] - of_classes[..., 1], 1, 0))
    pair, scene = (each.ravel() for each in np.indices(right.shape))
    outlines = scenes.objects[scenes.pairs][pair]
    return Columns(np.arange(right.size), -1 - scene, right.reshape(1, -1), 0, outlines=outlines)


def _right(margin_j: NDArray[np.floating], margin_k: NDArray[np.floating]) -> FloatArray:
    right: FloatArray = (np.sign(margin_j) - np.sign(margin_k)) / 4.0 + 0.5
    return right


@measure(
    title="Reliance on the shape, |shape choices - 50\u202f%|",
    definition="How far the shape choices lie from 50\u202f%, in points, because a network that a shape misleads "
    "relies on it, too. It is given only as a difference of two networks or ways of hiding. On its own, noise would "
    "lift it above 0.",
    group="outline",
    unit="points",
    goal="low",
    members=lambda _plan: (),
)
def reliance() -> Statistic:
    """The statistic whose magnitude networks and claims are compared by: shape choices minus 1/2, in [-1/2, 1/2]."""

    def columns(outcomes: Outcomes) -> Columns:
        found = choices(outcomes)
        return found._replace(values=found.values - 0.5)

    return Statistic(columns, scale=(-0.5, 0.5))


@measure(
    title="Shape gain (log-odds)",
    definition="Shape choices in log-odds, which is the log-odds of the class whose shape the hole has, minus those "
    "of the same class behind a hole in the shape of a third class, of like area, both where the image's object was.",
    group="outline",
    unit="logits",
    members=lambda plan: where_shapes(plan) if plan.shape_choice else (),
    in_training=True,
    compared=True,
)
def shape_gain() -> Statistic:
    """What a shape adds to the log-odds of its class in an image of another class, in nats; 0 is best.

    The mean of 1/2 (L_j(y_j) - L_k(y_j) + L_k(y_k) - L_j(y_k)), with L_j(y) the log-odds of class y behind object j's
    silhouette.
    """

    def columns(outcomes: Outcomes) -> Columns:
        behind_j, behind_k = (outcomes.log_odds_under(each) for each in ("swap_j", "swap_k"))
        towards_j, towards_k = behind_j[:, _J] - behind_k[:, _J], behind_k[:, _K] - behind_j[:, _K]
        gain = (towards_j + towards_k) / 2
        return columns_of(outcomes, outcomes.swap_valid & np.isfinite(gain), gain)

    return Statistic(columns, scale=(-math.inf, math.inf))
