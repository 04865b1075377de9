"""Each measure against its formula written out image by image."""

import numpy as np
import pytest

from maskrobust.lm_modules.reliance.catalogue import Context, measure_members
from maskrobust.lm_modules.reliance.estimates.estimation import estimate, estimate_difference
from maskrobust.lm_modules.reliance.holes.conditions import transfer_condition
from maskrobust.lm_modules.reliance.holes.curves import curve_condition
from maskrobust.lm_modules.reliance.measures.accuracy import (
    circle_accuracy,
    clean_accuracy,
    retention,
    silhouette_accuracy,
    transfer_accuracy,
)
from maskrobust.lm_modules.reliance.measures.retention_curves import curve_accuracy
from maskrobust.lm_modules.reliance.measures.shape import (
    reliance,
    shape_choice,
    silhouette_leak,
)
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from tests.lm_modules.reliance.tables import answering, make_outcomes, misled, take

INVALID = (2, 3, 11)


def value_of(measure, outcomes):
    found = estimate(measure, [outcomes]).interval
    assert found.low <= found.value <= found.high
    return found.value


@pytest.fixture
def outcomes():
    return make_outcomes(200, seed=4, skill=0.4, invalid=INVALID)


def valid_rows(outcomes):
    return [i for i in range(len(outcomes)) if i not in INVALID]


def test_leak_is_the_difference_of_two_accuracies_over_valid_images(outcomes):
    rows = valid_rows(outcomes)
    silhouette = np.mean([outcomes.predictions_under("silhouette")[i] == outcomes.labels[i] for i in rows])
    circle = np.mean([outcomes.predictions_under("circle")[i] == outcomes.labels[i] for i in rows])
    assert value_of(silhouette_accuracy(), outcomes) == pytest.approx(silhouette)
    assert value_of(circle_accuracy(), outcomes) == pytest.approx(circle)
    assert value_of(silhouette_leak(), outcomes) == pytest.approx(silhouette - circle)


def test_a_choice_is_right_where_the_class_of_the_shape_has_the_larger_probability(outcomes):
    def logit_of(odds):  # up to a number that all classes share
        return np.log(1.0 / (1.0 + np.exp(-odds)))

    right = []
    for i in valid_rows(outcomes):
        for hole, own, other in (("swap_j", 1, 2), ("swap_k", 2, 1)):
            odds = outcomes.log_odds[hole][i].astype(np.float64)
            right.append(logit_of(odds[own]) > logit_of(odds[other]))
    assert value_of(shape_choice(), outcomes) == pytest.approx(np.mean(right))
    assert value_of(reliance(), outcomes) == pytest.approx(np.mean(right) - 0.5)


def test_no_interval_is_longer_than_its_scale():
    few = make_outcomes(30, seed=1, skill=0.5)
    two = take(few, np.arange(2))
    for measure, low, high in ((shape_choice(), 0.0, 1.0), (reliance(), -0.5, 0.5)):
        found = estimate(measure, [two])
        assert low == found.low and found.high == high
        assert abs(estimate_difference(measure, [two], [misled(two)]).low) <= 1.0
    leak = estimate(silhouette_leak(), [two, misled(two)])
    assert (leak.low, leak.high) == (-1.0, 1.0)


def test_clean_accuracy_and_retention_count_all_images(outcomes):
    assert value_of(clean_accuracy(), outcomes) == np.mean(outcomes.predictions_under("clean") == outcomes.labels)
    half_hidden = np.mean(outcomes.predictions["retention/0.5"] == outcomes.labels)
    assert value_of(retention(0.5), outcomes) == pytest.approx(half_hidden)
    assert estimate(clean_accuracy(), [outcomes]).left_out == 0
    assert estimate(silhouette_leak(), [outcomes]).left_out == 3


FAMILIES = ("blobs", "slic", "rectangles", "objects")


def not_asked(outcomes, ids, *conditions):
    """The same outcomes without answers about some images under some conditions."""
    left_out = np.isin(outcomes.ids, ids)
    return answering(outcomes, **{name: np.where(left_out, -1, outcomes.predictions[name]) for name in conditions})


def test_a_cell_is_the_accuracy_over_the_images_asked():
    made = make_outcomes(200, 0, plan=ReliancePlan(transfer_families=FAMILIES))
    for family in FAMILIES:
        name = transfer_condition(family)
        found, answers = estimate(transfer_accuracy(family), [not_asked(made, range(30), name)]), made.predictions[name]
        assert found.value == pytest.approx((answers == made.labels)[20:].mean())
        assert (found.images, found.left_out) == (180, 20)


FAMILY = "slic"
ORDER = "most_salient"
FRACTIONS = (0.0, 0.1, 0.5, 1.0)
NOT_ASKED = (3, 4, 17, 60)


CURVES = ReliancePlan(curve_families=("slic",), curve_orders=("random", "most_salient"), curve_fractions=FRACTIONS)


def curve_outcomes():
    """Random outcomes that know the curves, of images that were not all asked."""
    names = [curve_condition(FAMILY, ORDER, fraction) for fraction in FRACTIONS]
    return not_asked(make_outcomes(150, 0, plan=CURVES), 10 + np.array(NOT_ASKED), *names)


def accuracy_of(outcomes, fraction, rows):
    predictions = outcomes.predictions[curve_condition(FAMILY, ORDER, fraction)]
    return float(np.mean([predictions[i] == outcomes.labels[i] for i in rows]))


def curve(*fractions):
    return curve_accuracy(FAMILY, ORDER, fractions)


def rows_asked(outcomes):
    return np.array([row for row in range(len(outcomes)) if row not in NOT_ASKED])


@pytest.mark.parametrize("fractions", [*((each,) for each in FRACTIONS), FRACTIONS])
def test_a_score_is_the_mean_over_the_curve_over_images_asked_at_every_fraction(fractions):
    last = curve_condition(FAMILY, ORDER, FRACTIONS[-1])
    outcomes = not_asked(curve_outcomes(), [110], last)
    rows = np.setdiff1d(rows_asked(outcomes), [100] if FRACTIONS[-1] in fractions else [])
    found = estimate(curve(*fractions), [outcomes])
    assert found.value == pytest.approx(np.mean([accuracy_of(outcomes, fraction, rows) for fraction in fractions]))
    assert (found.images, found.left_out) == (len(rows), 150 - len(rows))


def test_the_catalogue_asks_every_point_and_the_score_of_every_curve():
    outcomes = curve_outcomes()
    asked = [each for each in measure_members(Context(CURVES)) if each.measure.group == "curves"]
    assert len(asked) == 2 * (len(FRACTIONS) + 1)
    for each in asked:
        is_score, parameters = each.measure.name == "curve_accuracy_score", each.parameters
        fractions = FRACTIONS if is_score else [parameters["hidden_fraction"]]
        expected = curve_accuracy("slic", parameters["order"], fractions)
        assert each.estimate([outcomes]) == estimate(expected, [outcomes])


def test_where_no_image_was_asked_the_score_is_undefined():
    names = [curve_condition(FAMILY, ORDER, fraction) for fraction in FRACTIONS]
    made = make_outcomes(5, 0, plan=CURVES)
    found = estimate(curve(*FRACTIONS), [not_asked(made, made.ids, *names)])
    assert found.interval is None and (found.images, found.left_out) == (0, 5)
