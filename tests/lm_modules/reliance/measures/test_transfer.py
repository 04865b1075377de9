"""Cells of the transfer matrix against plain means."""

import numpy as np
import pytest

from maskrobust.lm_modules.reliance.catalogue import Context, measure_members
from maskrobust.lm_modules.reliance.estimates.estimation import estimate
from maskrobust.lm_modules.reliance.holes.conditions import transfer_condition
from maskrobust.lm_modules.reliance.measures.transfer import transfer_accuracy, worst_family
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from tests.lm_modules.reliance.tables import NUM_CLASSES, answering, make_outcomes

FAMILIES = ("blobs", "slic", "rectangles", "objects")


def plan_of(*families):
    return ReliancePlan(shapes=False, transfer_families=families)


@pytest.fixture
def outcomes():
    """Blobs are read in 3 of 4 images, segments and objects never, rectangles at random; 20 images are not asked."""
    made = make_outcomes(200, seed=0)
    rng = np.random.default_rng(1)
    wrong = (made.labels + 1) % NUM_CLASSES
    answers = {
        "blobs": np.where(made.ids % 4 == 0, wrong, made.labels),
        "slic": wrong,
        "rectangles": rng.integers(0, NUM_CLASSES, 200),
        "objects": wrong,
    }
    return answering(
        made, **{transfer_condition(name): np.where(made.ids < 30, -1, each) for name, each in answers.items()}
    )


def test_a_cell_is_the_accuracy_over_the_images_asked(outcomes):
    for family in FAMILIES:
        answers = outcomes.predictions_under(transfer_condition(family))
        found = estimate(transfer_accuracy(family), [outcomes])
        assert found.interval is not None
        assert found.interval.value == pytest.approx((answers == outcomes.labels)[answers >= 0].mean())
        assert (found.images, found.left_out) == (180, 20)


def test_the_worst_family_is_the_lowest_cell(outcomes):
    assert estimate(worst_family(plan_of(*FAMILIES)), [outcomes]).interval == (0.0, 0.0, 0.0)
    two = estimate(worst_family(plan_of("blobs", "rectangles")), [outcomes]).interval
    assert two == estimate(transfer_accuracy("rectangles"), [outcomes]).interval


def test_what_hides_the_whole_object_is_not_the_worst_family(outcomes):
    found = estimate(worst_family(plan_of("blobs", "objects")), [outcomes]).interval
    assert found == estimate(transfer_accuracy("blobs"), [outcomes]).interval
    only_objects = Context(plan_of("objects"))
    assert "worst_family" not in {asked.measure.name for asked in measure_members(only_objects)}
