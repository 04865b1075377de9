"""The holes that images bring along: how far answers follow them, what they tell, and what exchanging them costs."""

from collections.abc import Sequence
from functools import partial
from typing import get_args

import numpy as np

from maskrobust.lm_modules.reliance.arrays import FloatArray, IntArray
from maskrobust.lm_modules.reliance.catalogue import OWN_HOLE_PULL, Parameters, measure
from maskrobust.lm_modules.reliance.estimates.estimation import (
    Columns,
    Estimate,
    Estimator,
    Statistic,
    right_answers,
)
from maskrobust.lm_modules.reliance.hole_reader import Feature, HolesRead
from maskrobust.lm_modules.reliance.holes.own import EXCHANGED, pair_condition
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.plan import ReliancePlan

NO_PAIR = "undefined because it takes images of two classes, and of three objects, to exchange holes between them."
MENDED_ALIKE = "undefined because the pictures are mended by this fill, behind which a hole cannot be told from them."
"""Why nothing is said of own holes under a method of `MENDING_FILLS`."""

_EXCHANGING = (
    "Two other images, of two classes, lend their holes. The picture is mended by inpainting wherever it or either of "
    "them has a hole, and shown with the one hole and then with the other, so that both hide the same pixels. No hole "
    "counts as a hole."
)
_INTERVAL = "Intervals are over pictures and those that lend their holes."


def where_own_holes(plan: ReliancePlan) -> tuple[Parameters, ...]:
    """Members of a measure that needs images with holes of their own."""
    return ({},) if plan.own_holes else ()


def own_hole_pulls(predictions: IntArray, classes: IntArray) -> FloatArray:
    """1/2 (1[f_j = a] - 1[f_k = a] + 1[f_k = b] - 1[f_j = b]) of answers f behind the holes of j, of class a, and k.

    Args:
        predictions: (N, 2) behind the holes of j and k; -1 where not asked.
        classes: (N, 2) of j and k.
    """
    named = (predictions[:, :, np.newaxis] == classes[:, np.newaxis]).astype(np.float64)
    pull: FloatArray = (named[:, 0, 0] - named[:, 1, 0] + named[:, 1, 1] - named[:, 0, 1]) / 2.0
    return pull


def _columns(outcomes: Outcomes) -> Columns:
    """The pull of every pair of each image, (1, M), pair by pair; 0 where two equal holes were not asked about."""
    rows = []
    for number, who in outcomes.donors.items():
        names = [pair_condition(int(number), donor) for donor in "jk"]
        predictions = np.stack([outcomes.predictions_under(name) for name in names], axis=1)
        pulls, valid = own_hole_pulls(predictions, who[:, :, 2]), who[:, 0, 0] >= 0
        rows.append([each[valid] for each in (outcomes.ids, outcomes.objects, pulls, who[:, :, 1])])
    ids, objects, pulls, donors = (np.concatenate(each) for each in zip(*rows, strict=True))
    left_out = len(outcomes) - len(np.unique(ids))
    return Columns(ids, objects, pulls[np.newaxis], left_out, outlines=donors, undefined_because=NO_PAIR)


_holes = partial(measure, group="holes", unit="fraction", compared=True, members=where_own_holes)


@_holes(
    title="Pull of own holes",
    name=OWN_HOLE_PULL,
    definition=f"How far answers follow the holes that images bring along. {_EXCHANGING} The pull is how much "
    "more often the network names a class behind the hole from that class than behind the other, the mean over both. "
    f"0: answers do not follow holes. 1: the hole decides. Below 0 holes mislead. {_INTERVAL}",
    goal="zero",
    in_training=True,
)
def own_hole_pull() -> Statistic:
    """The mean of `own_hole_pulls` over pairs, in [-1, 1]; 0 where two holes are equal."""
    return Statistic(_columns, scale=(-1.0, 1.0))


@measure(
    title="Holes alone, by {by}",
    definition="How often a reader that sees nothing but two holes, of images of two classes, says whose is whose. "
    "50\u202f%: blind. It sees everything of a hole (where it is, its shape, its place, its size, and whether there is "
    "one), or one of these. It is fitted without the ten per cent of the objects that it is asked about.",
    group="holes",
    unit="fraction",
    goal="none",
    members=lambda plan: [{"by": each} for each in get_args(Feature)] if plan.own_holes else (),
    of_data=True,
)
def holes_tell(holes: HolesRead, by: Feature) -> Estimator:
    """The reader's order, in [0, 1]; 1/2 is blind.

    Args:
        holes: what the reader of each feature finds.
        by: which feature it sees.
    """
    return _told(holes.readings[by].order)


@measure(
    title="Pull of holes alone",
    definition="The pull on the answers of the reader that sees everything of a hole, and nothing else: what answers "
    "can follow.",
    group="holes",
    unit="fraction",
    goal="none",
    members=where_own_holes,
    of_data=True,
)
def holes_pull(holes: HolesRead) -> Estimator:
    """The reader's pull, in [-1, 1]."""
    return _told(holes.readings["everything"].pull)


def _told(found: Estimate) -> Estimator:
    def told(_runs: Sequence[Outcomes]) -> Estimate:
        return found

    return told


@_holes(
    title="Own holes",
    definition="Accuracy with the holes that images bring along, such as areas without data, and nothing else hidden.",
    goal="high",
)
def own_holes_accuracy() -> Statistic:
    """Accuracy behind each image's own hole, in [0, 1], over the images that can be given another's."""
    return Statistic(lambda outcomes: right_answers(outcomes, "clean", EXCHANGED))


@_holes(
    title="Exchanged holes",
    definition="Accuracy with the holes of other images. The image's own hole is mended by inpainting, and the image "
    "gets the hole of another one, drawn at random whatever its class. Such holes tell nothing of the class.",
    goal="high",
    in_training=True,
)
def exchanged_holes_accuracy() -> Statistic:
    """Accuracy behind the hole of another image, in [0, 1]."""
    return Statistic(lambda outcomes: right_answers(outcomes, EXCHANGED))
