"""Outcomes made of random numbers, for tests of what is computed from them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lm_modules.reliance import Outcomes

NUM_CLASSES = 3


def make_outcomes(
    images: int, seed: int, fractions: Sequence[float] = (0.0, 0.5), skill: float = 0.0, invalid: Sequence[int] = ()
) -> Outcomes:
    """Random outcomes with ids 10, 11, ...

    Ids, labels, swap labels and validity depend on `images` and `invalid` alone. `skill` is the chance that the
    silhouette's prediction is right for certain instead of a guess.
    """
    fixed, rng = np.random.default_rng(12345), np.random.default_rng(seed)
    labels = fixed.integers(0, NUM_CLASSES, images)
    valid = ~np.isin(np.arange(images), invalid)

    def guess(*shape: int) -> np.ndarray:
        return rng.integers(0, NUM_CLASSES, (*shape, images))

    outcomes = Outcomes(
        num_classes=NUM_CLASSES,
        hidden_fractions=np.array(fractions),
        ids=10 + np.arange(images),
        labels=labels,
        clean=guess(),
        silhouette=np.where(rng.random(images) < skill, labels, guess()),
        circle=guess(),
        whole_mask=labels,
        broken_mask=labels,
        patches=guess(len(fractions)),
        swap_j=guess(),
        swap_k=guess(),
        swap_label_j=(labels + 1) % NUM_CLASSES,
        swap_label_k=(labels + 2) % NUM_CLASSES,
        swap_area_difference=rng.random(images),
        object_valid=valid,
        swap_valid=valid,
        sensitivity=rng.random(images),
    )
    silhouette = np.where(valid, outcomes.silhouette, -1)
    return replace(outcomes, silhouette=silhouette, whole_mask=guess(), broken_mask=guess())
