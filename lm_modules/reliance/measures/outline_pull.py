"""Outline pull: how far a hole in an empty scene moves the prediction towards the object of its shape."""

import math
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from maskrobust.lm_modules.reliance.arrays import FloatArray
from maskrobust.lm_modules.reliance.catalogue import OUTLINE_PULL, measure
from maskrobust.lm_modules.reliance.estimates.estimation import Columns, Statistic
from maskrobust.lm_modules.reliance.outcomes import SCENE_KINDS, Outcomes

_ROUNDING = 1e-5
"""Pulls up to this fraction of the largest of their four logits are rounding."""

TOO_FEW = (
    "undefined because it takes two empty scenes of the kind, and pairs of four objects that are of two classes, alike "
    "in area and enclosing circle to 20 %, and away from the border."
)
_PULL = (
    "Two holes in the shapes of two objects, of like area and enclosing circle, are cut in turn into the middle of the "
    "same empty scene, a picture without objects. The pull is half of the number of logits by which the one hole, "
    "compared with the other, moves the margin between the two classes towards the class of its shape. 0: no effect."
)
_INTERVAL = "Intervals are Student's, over objects and scenes, both as random effects."
_pull = partial(measure, group="outline", unit="logits", compared=True)


def outline_pulls(logits: ArrayLike, classes: ArrayLike, pairs: ArrayLike) -> FloatArray:
    """How far the holes of each pair of objects pull the answer towards their own classes, in each scene.

    With L_i the logits behind the hole of object i, of class a, and L_j those behind that of object j, of class b,

        d = ((L_i[a] - L_i[b]) - (L_j[a] - L_j[b])) / 2.

    Args:
        logits: (shapes, scenes, columns), of any float type.
        classes: (shapes,) the column of each object's class.
        pairs: (P, 2) positions of objects, as `alike_pairs` gives them.

    Returns:
        (P, scenes) float64 in logits, above 0 where the holes pull towards their own objects; 0 where |d| is at most
        1e-5 of the largest of the four logits, which is rounding.
    """
    values, of, (i, j) = np.asarray(logits), np.asarray(classes), np.asarray(pairs).reshape(-1, 2).T
    four = np.array([[values[shape, :, of[shown]] for shown in (i, j)] for shape in (i, j)], dtype=np.float64)
    (i_a, i_b), (j_a, j_b) = four
    pulls = ((i_a - i_b) - (j_a - j_b)) / 2.0
    return np.where(np.abs(pulls) <= _ROUNDING * np.abs(four).max(axis=(0, 1)), 0.0, pulls)


@_pull(
    title="Outline pull (logits)",
    definition=f"{_PULL} {_INTERVAL}",
    name=OUTLINE_PULL,
    members=lambda plan: ({},) if plan.scenes else (),
    in_training=True,
)
def outline_pull(kinds: tuple[str, ...] = SCENE_KINDS) -> Statistic:
    """The mean of `outline_pulls` over pairs of objects and scenes of some kinds, in logits; 0 is best.

    It rests on the pairs in each scene, and intervals are over objects and scenes.
    """

    def columns(outcomes: Outcomes) -> Columns:
        found = outcomes.scenes
        assert found is not None  # of a plan that has scenes
        of_kinds = np.isin(found.kinds, [SCENE_KINDS.index(kind) for kind in kinds])
        pulls = outline_pulls(found.logits[:, of_kinds], found.columns, found.pairs)
        if pulls.shape[1] < 2 or len(np.unique(found.pairs)) < 4:  # too few to tell how much they vary
            pulls = pulls[:0]
        pair, scene = (each.ravel() for each in np.indices(pulls.shape))
        outlines, ids = found.objects[found.pairs[pair]], np.arange(pulls.size)
        return Columns(ids, -1 - np.flatnonzero(of_kinds)[scene], pulls.reshape(1, -1), 0, outlines, TOO_FEW)

    return Statistic(columns, scale=(-math.inf, math.inf))


@_pull(
    title="Outline pull (logits), {scenes}",
    definition=f"{_PULL} This is over scenes of one kind (flat colours, noise or photographs). {_INTERVAL}",
    members=lambda plan: [{"scenes": kind} for kind in SCENE_KINDS] if plan.scenes else (),
)
def outline_pull_on(scenes: str) -> Statistic:
    """The same over the scenes of one kind."""
    return outline_pull((scenes,))
