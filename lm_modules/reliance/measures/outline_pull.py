"""Outline pull: how far a hole in an empty scene moves the prediction towards the object of its shape."""

from functools import partial

from maskrobust.lm_modules.reliance.catalogue import OUTLINE_PULL, measure
from maskrobust.lm_modules.reliance.estimates.crossed import CrossedStatistic
from maskrobust.lm_modules.reliance.outcomes import SCENE_KINDS

_PULL = (
    "Two holes in the shapes of two objects, of like area and enclosing circle, are cut in turn into the middle of the "
    "same empty scene, a picture without objects. The pull is half of the number of logits by which the one hole, "
    "compared with the other, moves the margin between the two classes towards the class of its shape. 0: no effect."
)
_INTERVAL = "Intervals are Student's, over objects and scenes, both as random effects."
_pull = partial(measure, group="outline", unit="logits", compared=True)


@_pull(
    title="Outline pull (logits)",
    definition=f"{_PULL} {_INTERVAL}",
    name=OUTLINE_PULL,
    members=lambda plan: ({},) if plan.scenes else (),
    in_training=True,
)
def outline_pull_of_all() -> CrossedStatistic:
    """The mean of `crossed.outline_pulls` over pairs and scenes, in logits."""
    return CrossedStatistic()


@_pull(
    title="Outline pull (logits), {scenes}",
    definition=f"{_PULL} This is over scenes of one kind (flat colours, noise or photographs). {_INTERVAL}",
    members=lambda plan: [{"scenes": kind} for kind in SCENE_KINDS] if plan.scenes else (),
)
def outline_pull_on(scenes: str) -> CrossedStatistic:
    """The same over the scenes of one kind."""
    return CrossedStatistic(scenes)
