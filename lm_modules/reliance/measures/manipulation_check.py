"""Did the training of an arm of a claim work? `maskrobust claim` measures it."""

from maskrobust.lm_modules.reliance.catalogue import measure
from maskrobust.lm_modules.reliance.estimates.estimation import Statistic


@measure(
    title="Manipulation check",
    definition="How well a network does in what a training asks for, behind its masks: accuracy, agreement with its "
    "answer to the whole image, or entropy where the object is hidden by a decoy.",
    group="training",
    unit="fraction",
    goal="high",
    members=lambda _plan: (),
)
def manipulation_check() -> Statistic:
    """Never made from outcomes: what a training asks for is known to its configuration alone."""
    raise NotImplementedError(
        "the manipulation check needs the training of an arm, which a plan does not have; run maskrobust claim."
    )
