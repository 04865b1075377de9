"""Empty-scene pull: which of two shapes, cut out of a picture without objects, a network takes for what it is."""

from collections.abc import Sequence

import numpy as np

from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.arrays import FloatArray
from maskrobust.lm_modules.reliance.catalogue import Parameters, measure
from maskrobust.lm_modules.reliance.estimation import Columns, Statistic
from maskrobust.lm_modules.reliance.outcomes import Outcomes, PairAnswers
from maskrobust.lm_modules.reliance.plan import ReliancePlan

_NO_SCENES = "undefined because the data have no pictures without objects."
_NO_PAIRS = (
    "undefined because no two objects of two classes match in area and enclosing circle to 5 % without touching the "
    "border."
)
_NO_PIXELS = "undefined because no pair has both objects among the images."

_INTERVAL = "Pairs are counted; the interval is over their objects, and takes the pictures as given."


def _where_scenes(plan: ReliancePlan) -> Sequence[Parameters]:
    return ({},) if plan.scenes else ()


@measure(
    title="Scene 2AFC",
    definition="Two objects of two classes, alike in area and enclosing circle, are cut as holes into pictures without "
    "objects, at the same place: how often the network's margin between the two classes tells which hole is which "
    "(two-alternative forced choice; ties count half). At .5 the outline is not felt, whatever the network. "
    f"{_INTERVAL}",
    group="outline",
    goal="none",
    asked=_where_scenes,
    in_terminal=True,
    compared=True,
)
def scene_2afc() -> Statistic:
    """P(d > 0) + P(d = 0) / 2 over pairs of objects, in [0, 1], with d the pull of their holes; see `ask_pass`."""
    return Statistic(lambda outcomes: _columns(outcomes, _wins(_pairs(outcomes).hidden)), _fraction)


@measure(
    title="Scene 2AFC, object shown",
    definition="The same with the objects themselves laid over the pictures and nothing hidden: how well the network "
    "tells these objects at all.",
    group="outline",
    goal="none",
    asked=_where_scenes,
)
def scene_2afc_shown() -> Statistic:
    """P(d > 0) + P(d = 0) / 2 over pairs of objects, in [0, 1], with d the pull of the objects themselves."""
    return Statistic(lambda outcomes: _columns(outcomes, _wins(_pairs(outcomes).shown)), _fraction)


@measure(
    title="Scene share",
    definition="How far the 2AFC of the holes lies above .5, as a share of what it does with the objects shown. At 0 "
    "the outline is not felt; at 1 it tells as much as the object.",
    group="outline",
    asked=_where_scenes,
    compared=True,
)
def scene_share() -> Statistic:
    """(2AFC - 1/2) / (2AFC with the object shown - 1/2), over pairs of which both objects can be shown.

    Undefined where the lower bound of the denominator is not above 0. Should a single resample's denominator be 0 or
    less, it counts as 1e-9, which only widens the interval.
    """

    def columns(outcomes: Outcomes) -> Columns:
        pairs = _pairs(outcomes)
        return _columns(outcomes, _wins(pairs.hidden), _wins(pairs.shown))

    def denominator(means: FloatArray) -> FloatArray:
        return _fraction(means[..., 1:]) - 0.5

    def combine(means: FloatArray) -> FloatArray:
        return (_fraction(means) - 0.5) / np.maximum(denominator(means), 1e-9)

    return Statistic(columns, combine, denominator, "the 2AFC with the object shown, minus .5,")


@measure(
    title="Scene pull (logits)",
    definition="By how many logits a hole moves the margin between the two classes towards that of its own shape. At 0 "
    f"the outline is not felt. {_INTERVAL}",
    group="outline",
    unit="logits",
    asked=_where_scenes,
    compared=True,
)
def scene_pull() -> Statistic:
    """Mean d over pairs of objects, in logits, with d the pull of their holes; see `ask_pass`."""
    return Statistic(lambda outcomes: _columns(outcomes, _pairs(outcomes).hidden))


def _pairs(outcomes: Outcomes) -> PairAnswers:
    if outcomes.pairs is None:
        raise InputError("the outcomes hold no answers about pairs; evaluate with a plan that has scenes.")
    return outcomes.pairs


def _wins(pulls: FloatArray) -> FloatArray:
    """1 where a pull is above 0, 1/2 where it is 0, NaN where it is unknown."""
    return (np.sign(pulls) + 1.0) / 2.0


def _fraction(means: FloatArray) -> FloatArray:
    """The mean of the first column, a fraction whose normal draws may leave [0, 1]."""
    fraction: FloatArray = means[..., 0].clip(0.0, 1.0)
    return fraction


def _columns(outcomes: Outcomes, *rows: FloatArray) -> Columns:
    """Rows (P,) of quantities, over the pairs of which all are known."""
    pairs, values = _pairs(outcomes), np.stack(rows)
    known = np.isfinite(values).all(axis=0)
    because = _NO_SCENES if pairs.scenes == 0 else _NO_PAIRS if len(pairs.ids) == 0 else _NO_PIXELS
    return Columns(pairs.ids[known], pairs.objects[known], values[:, known], int((~known).sum()), because)
