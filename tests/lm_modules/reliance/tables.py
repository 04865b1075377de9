"""Outcomes made of random numbers, for tests of what is computed from them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from maskrobust.lm_modules.reliance.holes.conditions import condition_names
from maskrobust.lm_modules.reliance.outcomes import Outcomes, SceneAnswers
from maskrobust.lm_modules.reliance.plan import ReliancePlan

NUM_CLASSES = 3


def make_outcomes(
    images: int,
    seed: int,
    fractions: Sequence[float] = (0.5,),
    skill: float = 0.0,
    invalid: Sequence[int] = (),
    plan: ReliancePlan | None = None,
) -> Outcomes:
    """Random outcomes with ids 10, 11, ..., under the conditions of `plan`, or the default plan with these fractions.

    Ids, labels, swaps, objects and validity depend on `images` and `invalid` alone. `skill` is the chance that the
    silhouette's prediction, or both choices between two shapes, are right for certain instead of a guess.
    """
    fixed, rng = np.random.default_rng(12345), np.random.default_rng(seed)
    labels = fixed.integers(0, NUM_CLASSES, images)
    valid = ~np.isin(np.arange(images), invalid)

    def guess() -> np.ndarray:
        return rng.integers(0, NUM_CLASSES, images)

    predictions = {"clean": guess()}
    follows = np.random.default_rng((seed, 1)).random((images, 1)) < skill
    follow = {name: follows * np.eye(3)[place] for place, name in ((1, "swap_j"), (2, "swap_k"))}
    for name in condition_names(plan or ReliancePlan(hidden_fractions=tuple(fractions))):
        is_right = rng.random(images) < skill if name == "silhouette" else np.zeros(images, dtype=bool)
        of_any_image = name.startswith(("retention/", "curve/", "transfer/"))
        predictions[name] = np.where(valid | of_any_image, np.where(is_right, labels, guess()), -1)
    return Outcomes(
        num_classes=NUM_CLASSES,
        ids=10 + np.arange(images),
        objects=10 + np.arange(images),
        labels=labels,
        predictions=predictions,
        object_fraction=fixed.random(images),
        swap_label_j=(labels + 1) % NUM_CLASSES,
        swap_label_k=(labels + 2) % NUM_CLASSES,
        swap_object_j=10 + (np.arange(images) + 1) % images,
        swap_object_k=10 + (np.arange(images) + 2) % images,
        object_valid=valid,
        swap_valid=valid,
        scenes=SceneAnswers(
            kinds=np.arange(6) % 3,
            energy=np.linspace(0.0, 0.1, 6),
            objects=np.arange(31),
            columns=np.arange(31) % NUM_CLASSES,
            pairs=np.stack([np.arange(30), 1 + np.arange(30)], axis=1),
            logits=rng.normal(size=(31, 6, NUM_CLASSES)).astype(np.float32),
        ),
        log_odds={
            name: ((name == "clean") + rng.normal(size=(images, 3)) + 20 * follow.get(name, 0)).astype(np.float32)
            for name in ("silhouette", "circle", "swap_j", "swap_k", "clean")
            if name in predictions
        },
    )


def take(outcomes: Outcomes, chosen: np.ndarray) -> Outcomes:
    """The outcomes of some images, in this order."""

    def rows(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: rows(each) for name, each in value.items()}
        return value[chosen] if isinstance(value, np.ndarray) else value

    return replace(outcomes, **{name: rows(value) for name, value in vars(outcomes).items()})


def assert_equal(one: Any, other: Any) -> None:
    """Outcomes, or a part of them, hold the same under the same names in the same order, NaN included."""
    if isinstance(other, Outcomes):
        assert_equal(vars(one), vars(other))
    elif isinstance(other, Mapping):
        assert list(one) == list(other)
        assert_equal(tuple(one.values()), tuple(other.values()))
    elif isinstance(other, tuple):
        for first, second in zip(one, other, strict=True):
            assert_equal(first, second)
    else:
        np.testing.assert_array_equal(one, other, strict=True)


def answering(outcomes: Outcomes, **predictions: np.ndarray) -> Outcomes:
    """The same outcomes with other predictions (N,) under some conditions."""
    return replace(outcomes, predictions={**outcomes.predictions, **predictions})


def misled(outcomes: Outcomes) -> Outcomes:
    """The same outcomes with each two holes exchanged: leak and choices of the other sign, and nothing else."""
    odds = dict(outcomes.log_odds) | {"swap_j": outcomes.log_odds["swap_k"], "swap_k": outcomes.log_odds["swap_j"]}
    exchanged = answering(
        outcomes, silhouette=outcomes.predictions_under("circle"), circle=outcomes.predictions_under("silhouette")
    )
    return replace(exchanged, log_odds=odds)
