"""Accuracy with nothing hidden, with the object hidden in two ways, and with patches hidden (retention, measure 5)."""

from collections.abc import Sequence

from maskrobust.lm_modules.reliance.catalogue import Parameters, measure, where_shapes
from maskrobust.lm_modules.reliance.conditions import retention_condition
from maskrobust.lm_modules.reliance.estimation import Statistic, right_answers
from maskrobust.lm_modules.reliance.plan import ReliancePlan


@measure(
    title="Nothing hidden",
    definition="Clean accuracy: accuracy with nothing hidden.",
    group="accuracy",
    unit="fraction",
    goal="high",
    in_terminal=True,
    compared=True,
)
def clean_accuracy() -> Statistic:
    """Accuracy with nothing hidden, in [0, 1], over all images."""
    return Statistic(lambda outcomes: right_answers(outcomes, "clean"))


def _fractions(plan: ReliancePlan) -> Sequence[Parameters]:
    return [{"hidden_fraction": fraction} for fraction in plan.hidden_fractions]


@measure(
    title="{hidden_fraction:.0%} hidden",
    definition="Retention: accuracy when that fraction of the square patches is hidden at random.",
    group="accuracy",
    unit="fraction",
    goal="high",
    asked=_fractions,
    in_training=True,
    in_terminal=True,
    compared=True,
)
def retention(hidden_fraction: float) -> Statistic:
    """Measure 5: accuracy with a fraction of the patches hidden at random, in [0, 1], over all images.

    Args:
        hidden_fraction: one of the plan's `hidden_fractions`; the columns raise InputError otherwise.
    """
    return Statistic(lambda outcomes: right_answers(outcomes, retention_condition(hidden_fraction)))


@measure(
    title="Silhouette hidden",
    definition="Accuracy when the object is hidden exactly along its outline, and a blob elsewhere that does not touch "
    "it.",
    group="accuracy",
    unit="fraction",
    goal="low",
    asked=where_shapes,
    compared=True,
)
def silhouette_accuracy() -> Statistic:
    """Accuracy with the object hidden along its outline, in [0, 1], over images with a valid object."""
    return Statistic(lambda outcomes: right_answers(outcomes, "silhouette"))


@measure(
    title="Circle hidden",
    definition="Accuracy when the smallest circle around the object is hidden: as many pixels, the whole object, no "
    "outline.",
    group="accuracy",
    unit="fraction",
    goal="low",
    asked=where_shapes,
    compared=True,
)
def circle_accuracy() -> Statistic:
    """Accuracy with the object's enclosing circle hidden, in [0, 1], over images with a valid object."""
    return Statistic(lambda outcomes: right_answers(outcomes, "circle"))
