"""Accuracy with the holes that images bring along, and with exchanged ones."""

from functools import partial

from maskrobust.lm_modules.reliance.arrays import FloatArray
from maskrobust.lm_modules.reliance.catalogue import Parameters, measure
from maskrobust.lm_modules.reliance.estimates.estimation import Statistic, right_answers
from maskrobust.lm_modules.reliance.holes.own import EXCHANGED
from maskrobust.lm_modules.reliance.plan import ReliancePlan


def where_own_holes(plan: ReliancePlan) -> tuple[Parameters, ...]:
    """Members of a measure that needs images with holes of their own."""
    return ({},) if plan.own_holes else ()


_holes = partial(measure, group="holes", unit="fraction", compared=True, members=where_own_holes)


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


@_holes(
    title="Own minus exchanged holes",
    definition="What exchanging holes costs in accuracy, paired image by image.",
    goal="zero",
)
def exchange_cost() -> Statistic:
    """Accuracy with own holes minus that with exchanged ones, in [-1, 1]."""

    def cost(means: FloatArray) -> FloatArray:
        difference: FloatArray = means[..., 0] - means[..., 1]
        return difference

    return Statistic(lambda outcomes: right_answers(outcomes, "clean", EXCHANGED), cost)
