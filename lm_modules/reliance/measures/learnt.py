"""Whether an arm of a claim has learnt what it was trained for; `maskrobust claim` examines its networks."""

from maskrobust.lm_modules.reliance.catalogue import measure
from maskrobust.lm_modules.reliance.estimation import Statistic


@measure(
    title="Learnt",
    definition="How well a network does in what a training asks for, behind its masks: accuracy, agreement with its "
    "answer to the whole image, or entropy where the object is hidden by a decoy.",
    group="training",
    unit="fraction",
    goal="high",
    asked=lambda _plan: (),
)
def learnt() -> Statistic:
    """Never made from outcomes: what a training asks for is known to its configuration alone."""
    raise NotImplementedError("maskrobust claim measures what its arms have learnt; ask it, not a plan.")
