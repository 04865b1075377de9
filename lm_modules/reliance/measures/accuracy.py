"""Accuracy with nothing, the object or patches hidden (retention), and by mask family: the transfer matrix."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from maskrobust.errors import library_needed
from maskrobust.lm_modules.reliance.arrays import IntArray
from maskrobust.lm_modules.reliance.catalogue import measure, where_shapes
from maskrobust.lm_modules.reliance.estimates.estimation import (
    Columns,
    Estimate,
    Estimator,
    Statistic,
    columns_of,
    right_answers,
)
from maskrobust.lm_modules.reliance.holes.conditions import retention_condition, transfer_condition
from maskrobust.lm_modules.reliance.outcomes import Outcomes

NEARLY_ONE = 0.95
"""Fraction of labels, or of answers, from which on they are nearly one class."""

_LEVEL, _ORDERS, _ROUNDING = 0.025, 400, 1e-12


_accuracy = partial(measure, group="accuracy", unit="fraction", compared=True)


@_accuracy(title="Nothing hidden", definition="Clean accuracy: accuracy with nothing hidden.", goal="high")
def clean_accuracy() -> Statistic:
    """Accuracy with nothing hidden, in [0, 1], over all images."""
    return Statistic(lambda outcomes: right_answers(outcomes, "clean"))


def chance_level(outcomes: Outcomes) -> tuple[float, str]:
    """Accuracy of an answer that does not look at the image, in [0, 1], and what such an answer does, in words.

    The fraction of the most frequent label; where (nearly) all images have one label, as where one class is looked at,
    1 / number of classes.

    Args:
        outcomes: outcomes with the labels of the data.
    """
    most = float(np.bincount(outcomes.labels).max()) / len(outcomes.labels)
    if most < NEARLY_ONE:
        return most, "always naming the most frequent class"
    return 1.0 / outcomes.num_classes, "naming classes at random"


def at_chance(outcomes: Outcomes) -> str:
    """Why measures mean nothing where a network is no better than chance with nothing hidden; empty where it is better.

    A network is better where its mean recall over the classes is larger than in all but 2.5 % of `_ORDERS` random
    orders of the objects' labels, an object keeping all of its images. That test is exact, whatever the frequencies of
    classes, and however alike the images of an object are. Where all objects have one label, as where one class is
    looked at, the fraction of right answers must be shown to exceed 1 / number of classes (Clopper and Pearson, 1934).

    Args:
        outcomes: outcomes with the labels of the data.
    """
    predictions = outcomes.predictions["clean"]
    objects = np.stack([outcomes.objects, outcomes.labels], axis=1)  # of one label each
    each_object, of_object = np.unique(objects, axis=0, return_inverse=True)
    labels, of_object = each_object[:, 1], of_object.reshape(-1)
    found = _mean_recall(predictions, outcomes.labels)
    if outcomes.num_classes == 1:
        p_value = 0.0
    elif len(np.unique(labels)) == 1:
        with library_needed():
            from scipy import stats

        right, chance = round(found * len(predictions)), 1.0 / outcomes.num_classes
        p_value = float(stats.binomtest(right, len(predictions), chance, alternative="greater").pvalue)
    else:
        stream = np.random.default_rng(0)
        by_chance = (_mean_recall(predictions, stream.permutation(labels)[of_object]) for _ in range(_ORDERS))
        p_value = (1 + sum(each >= found - _ROUNDING for each in by_chance)) / (1 + _ORDERS)
    recall = f"its mean recall over classes with nothing hidden, {100 * found:.1f}\u202f%,"
    return "" if p_value <= _LEVEL else f"{recall} is not shown to be better than chance"


def _mean_recall(predictions: IntArray, labels: IntArray) -> float:
    """The mean, over the classes that there are, of the fraction of their images that is named right."""
    count = np.bincount(labels)
    right = np.bincount(labels, weights=predictions == labels)
    return float((right[count > 0] / count[count > 0]).mean())


@_accuracy(
    title="{hidden_fraction:.0%} hidden",
    definition="Retention, the accuracy when that fraction of the square patches is hidden at random.",
    goal="high",
    members=lambda plan: [{"hidden_fraction": fraction} for fraction in plan.hidden_fractions],
    in_training=True,
)
def retention(hidden_fraction: float) -> Statistic:
    """Accuracy with a fraction of the patches hidden at random, in [0, 1], over all images.

    Args:
        hidden_fraction: one of the plan's `hidden_fractions`; the columns raise InputError otherwise.
    """
    return Statistic(lambda outcomes: right_answers(outcomes, retention_condition(hidden_fraction)))


@_accuracy(
    title="Silhouette hidden",
    definition="Accuracy when the object is hidden exactly along its outline, and a blob elsewhere that does not touch "
    "it.",
    goal="chance",
    members=where_shapes,
)
def silhouette_accuracy() -> Statistic:
    """Accuracy with the object cut out along its outline, in [0, 1], over images with a valid object."""
    return Statistic(lambda outcomes: right_answers(outcomes, "silhouette"))


@_accuracy(
    title="Circle hidden",
    definition="Accuracy when the smallest circle around the object is hidden. This hides the whole object and as "
    "many pixels, but shows no outline.",
    goal="chance",
    members=where_shapes,
)
def circle_accuracy() -> Statistic:
    """Accuracy with the object's enclosing circle hidden, in [0, 1], over images with a valid object."""
    return Statistic(lambda outcomes: right_answers(outcomes, "circle"))


def answers_behind_circles() -> Statistic:
    """Fraction of images behind whose circle a network names another class than the one it names most often, in [0, 1).

    Where it is near 0, answers say nothing of what logits follow.
    """

    def columns(outcomes: Outcomes) -> Columns:
        predictions = outcomes.predictions_under("circle")
        known = predictions >= 0
        most = np.bincount(predictions[known], minlength=1).argmax()
        return columns_of(outcomes, known, predictions != most)

    return Statistic(columns)


@measure(
    title="{family}",
    definition="Accuracy under every masking method and mask family, of those that a network was trained on and of "
    "those that it has never seen.",
    group="transfer",
    unit="fraction",
    goal="high",
    members=lambda plan: [{"family": family} for family in plan.transfer_families],
    in_training=True,
    by_seed=False,
)
def transfer_accuracy(family: str) -> Statistic:
    """One cell: accuracy behind the holes of a mask family, in [0, 1], over the images asked about it.

    Args:
        family: one of the plan's `transfer_families`; the columns raise InputError otherwise.
    """
    return Statistic(lambda outcomes: right_answers(outcomes, transfer_condition(family)))


@measure(
    title="Commonest prediction",
    definition="How often a network makes its commonest prediction behind the silhouette and the circle. From "
    f"{100 * NEARLY_ONE:.0f}\u202f% on it predicts (nearly) the same for all holes, and the leak means nothing.",
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

    def commonest(runs: Sequence[Outcomes]) -> Estimate:
        valid = runs[0].object_valid
        images, left_out = int(valid.sum()), int((~valid).sum())
        if images == 0:
            return Estimate(None, None, None, images, left_out, "undefined because no image is valid for it.")
        answers = [np.stack([run.predictions_under(hole)[valid] for hole in ("silhouette", "circle")]) for run in runs]
        largest = max(np.unique(each, return_counts=True)[1].max() / each.size for each in answers)
        return Estimate(float(largest), None, None, images, left_out)

    return commonest
