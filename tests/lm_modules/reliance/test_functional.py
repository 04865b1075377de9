"""The measures as functions of predictions: their formulas, and the numbers of the commands."""

import math

import numpy as np
import pytest
import torch

from maskrobust import silhouette_leak, swap_pull, used_share
from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.estimates.estimation import estimate
from maskrobust.lm_modules.reliance.measures import shape
from maskrobust.lm_modules.reliance.probe import ProbeOutcomes
from tests.lm_modules.reliance.tables import make_outcomes

COUNT = 40


@pytest.fixture
def drawn():
    """Classes of so many images, by name."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, COUNT)
    names = ("silhouette", "circle", "probe", "behind_j", "behind_k", "labels_j", "labels_k")
    mostly = {name: np.where(rng.random(COUNT) < 0.6, labels, rng.integers(0, 3, COUNT)) for name in names}
    return {"labels": labels, **mostly}


def accuracy(predictions, labels):
    return sum(one == other for one, other in zip(predictions.tolist(), labels.tolist(), strict=True)) / len(labels)


def test_the_used_share_is_the_leak_over_what_outlines_can_tell(drawn):
    silhouette, circle, probe, labels = (drawn[name] for name in ("silhouette", "circle", "probe", "labels"))
    leak = accuracy(silhouette, labels) - accuracy(circle, labels)
    majority = max(labels.tolist().count(each) for each in range(3)) / COUNT
    assert silhouette_leak(silhouette, circle, labels) == pytest.approx(leak)
    found = used_share(silhouette, circle, labels, probe)
    assert found == pytest.approx(leak / (accuracy(probe, labels) - majority))
    tensors = (torch.from_numpy(each) for each in (silhouette, circle, labels, probe))
    assert used_share(*tensors) == found


def test_the_swap_pull_is_the_mean_over_both_shapes(drawn):
    f_j, f_k, y_j, y_k = (drawn[name].tolist() for name in ("behind_j", "behind_k", "labels_j", "labels_k"))
    each = zip(f_j, f_k, y_j, y_k, strict=True)
    expected = sum(((a == c) - (b == c) + (b == d) - (a == d)) / 2 for a, b, c, d in each) / COUNT
    assert swap_pull(f_j, f_k, y_j, y_k) == pytest.approx(expected)
    assert swap_pull([0, 1], [1, 0], [0, 1], [1, 0]) == 1.0


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
