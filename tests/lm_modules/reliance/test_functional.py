"""The measures as functions of predictions: their formulas, and the numbers of the commands."""

import math

import pytest

from maskrobust import silhouette_leak, swap_pull, used_share
from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.estimates.estimation import estimate
from maskrobust.lm_modules.reliance.measures import shape
from maskrobust.lm_modules.reliance.probe import ProbeOutcomes
from tests.lm_modules.reliance.tables import make_outcomes


def test_a_probe_no_better_than_the_majority_leaves_the_used_share_undefined():
    assert math.isnan(used_share([0, 1], [0, 0], [0, 1], [1, 1]))


def test_commands_and_functions_give_the_same_numbers():
    outcomes = make_outcomes(60, seed=1, skill=0.5, invalid=(3, 17))
    probe = ProbeOutcomes(outcomes.ids, outcomes.labels, outcomes.labels)
    valid, swapped = outcomes.object_valid, outcomes.swap_valid
    silhouette, circle = (outcomes.predictions[name][valid] for name in ("silhouette", "circle"))
    behind = (outcomes.predictions[name][swapped] for name in ("swap_j", "swap_k"))
    labels = outcomes.labels[valid]
    expected = {
        shape.silhouette_leak(): silhouette_leak(silhouette, circle, labels),
        shape.used_share(probe): used_share(silhouette, circle, labels, labels),
        shape.swap_pull(): swap_pull(*behind, outcomes.swap_label_j[swapped], outcomes.swap_label_k[swapped]),
    }
    for statistic, value in expected.items():
        assert estimate(statistic, [outcomes], replicates=20).value == pytest.approx(value)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"circle": [0, 1]}, "circle must have a class for each image, as silhouette has for 3, got 2"),
        ({"labels": [0.0, 1.0, 2.0]}, "labels must be integers"),
        ({"probe": [[0, 1, 2]]}, r"probe must be integers \(N,\), .* got int64 \(1, 3\)"),
    ],
)
def test_what_is_no_class_for_each_image_is_named(changed, named):
    given = {name: [0, 1, 2] for name in ("silhouette", "circle", "labels", "probe")}
    with pytest.raises(InputError, match=named):
        used_share(**{**given, **changed})
