"""Silhouette leak (measure 1): accuracy behind the object's outline minus accuracy behind its enclosing circle."""

from maskrobust.lm_modules.reliance.catalogue import measure, where_shapes
from maskrobust.lm_modules.reliance.estimation import Statistic, difference_of_means, right_answers


@measure(
    title="Leak",
    definition="Silhouette accuracy minus circle accuracy, paired image by image. Both holes remove the whole object; "
    "only the first leaves its outline. Below zero the outline is read too, and misleads.",
    group="outline",
    asked=where_shapes,
    in_training=True,
    in_terminal=True,
    compared=True,
)
def silhouette_leak() -> Statistic:
    """Measure 1: mean of 1[right behind the silhouette] - 1[right behind the circle], in [-1, 1]."""
    return Statistic(lambda outcomes: right_answers(outcomes, "silhouette", "circle"), difference_of_means)
