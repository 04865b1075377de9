"""The leak with another ring: what stands between the outline and its circle is drawn from outside the circle."""

from maskrobust.lm_modules.reliance.catalogue import measure, where_leak_controls
from maskrobust.lm_modules.reliance.conditions import OTHER_RING
from maskrobust.lm_modules.reliance.estimation import Statistic, difference_of_means, right_answers


@measure(
    title="Other ring",
    definition="The leak in images whose ring between outline and circle is drawn from outside the circle, under both "
    "holes. What only the silhouette's hole shows is then its outline alone, and no content.",
    group="leak",
    asked=where_leak_controls,
    compared=True,
    by_seed=False,
)
def other_ring_leak() -> Statistic:
    """The leak in [-1, 1], with both holes cut into `leak_holes.with_other_ring` of the images."""
    return Statistic(lambda outcomes: right_answers(outcomes, *OTHER_RING), difference_of_means)
