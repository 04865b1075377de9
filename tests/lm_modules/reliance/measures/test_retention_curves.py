"""Figures of retention curves against plain NumPy and SciPy, image by image."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from maskrobust.lm_modules.reliance.catalogue import Context, measure_members
from maskrobust.lm_modules.reliance.estimates.estimation import estimate
from maskrobust.lm_modules.reliance.holes.curves import CurveFamily, CurveOrder, curve_condition
from maskrobust.lm_modules.reliance.measures.retention_curves import curve_statistic
from maskrobust.lm_modules.reliance.outcomes import Outcomes
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from tests.lm_modules.reliance.tables import NUM_CLASSES, make_outcomes

FAMILY: CurveFamily = "slic"
ORDER: CurveOrder = "most_salient"
FRACTIONS = (0.0, 0.1, 0.5, 1.0)
NOT_ASKED = (3, 4, 17, 60)
SIMILARITY = np.array([[1.0, 0.5, 0.2], [0.5, 1.0, 0.25], [0.2, 0.25, 1.0]])

Reference = Callable[[Outcomes, np.ndarray, np.ndarray], float]
"""(outcomes, predictions at a hidden fraction, positions of the images that count) -> figure."""


def curve_outcomes(images=150, seed=0, fractions=FRACTIONS):
    """Random outcomes that know the curve, predictions growing more uneven with the hidden fraction."""
    outcomes, rng = make_outcomes(images, seed), np.random.default_rng(seed + 1000)
    found = {}
    for fraction in fractions:
        chances = np.array([1.0, 1.0 - 0.7 * fraction, 1.0 - fraction])
        drawn = rng.choice(NUM_CLASSES, images, p=chances / chances.sum())
        drawn[list(NOT_ASKED)] = -1
        found[curve_condition(FAMILY, ORDER, fraction)] = drawn
    return replace(outcomes, predictions={**outcomes.predictions, **found})


def accuracy(outcomes, predictions, rows):
    return float(np.mean([predictions[i] == outcomes.labels[i] for i in rows]))


def unchanged(outcomes, predictions, rows):
    return float(np.mean([predictions[i] == outcomes.predictions["clean"][i] for i in rows]))


def class_entropy(outcomes, predictions, rows):
    return float(stats.entropy(np.bincount(predictions[rows], minlength=outcomes.num_classes)))


def similarity(outcomes, predictions, rows):
    return float(np.mean([SIMILARITY[predictions[i], outcomes.labels[i]] for i in rows]))


METRICS = [
    pytest.param("accuracy", accuracy, id="accuracy"),
    pytest.param("unchanged", unchanged, id="unchanged"),
    pytest.param("class_entropy", class_entropy, id="class entropy"),
    pytest.param("similarity", similarity, id="similarity"),
]


def curve(metric, *fractions):
    return curve_statistic(metric, FAMILY, ORDER, fractions, SIMILARITY if metric == "similarity" else None)


each_metric = pytest.mark.parametrize(("metric", "reference"), METRICS)


def rows_asked(outcomes):
    return np.array([row for row in range(len(outcomes)) if row not in NOT_ASKED])


@each_metric
@pytest.mark.parametrize("fraction", FRACTIONS)
def test_a_figure_is_that_of_plain_numpy_over_the_images_asked(
    metric: str, reference: Reference, fraction: float
) -> None:
    outcomes = curve_outcomes()
    predictions = outcomes.predictions[curve_condition(FAMILY, ORDER, fraction)]
    found = estimate(curve(metric, fraction), [outcomes], replicates=50)
    assert found.interval is not None
    assert found.interval.value == pytest.approx(reference(outcomes, predictions, rows_asked(outcomes)))
    assert (found.images, found.left_out) == (150 - len(NOT_ASKED), len(NOT_ASKED))


@each_metric
def test_a_score_is_the_mean_over_the_curve_over_images_asked_at_every_fraction(
    metric: str, reference: Reference
) -> None:
    outcomes = curve_outcomes()
    last = curve_condition(FAMILY, ORDER, FRACTIONS[-1])
    without_one = np.where(np.arange(150) == 100, -1, outcomes.predictions[last])
    outcomes = replace(outcomes, predictions={**outcomes.predictions, last: without_one})
    rows = np.setdiff1d(rows_asked(outcomes), [100])
    values = [
        reference(outcomes, outcomes.predictions[curve_condition(FAMILY, ORDER, fraction)], rows)
        for fraction in FRACTIONS
    ]
    found = estimate(curve(metric, *FRACTIONS), [outcomes], replicates=50)
    assert found.interval is not None
    assert found.interval.value == pytest.approx(np.mean(values))
    assert (found.images, found.left_out) == (len(rows), len(NOT_ASKED) + 1)


def test_a_figure_over_runs_is_the_mean_of_theirs_also_of_entropies():
    outcomes = curve_outcomes()
    condition = curve_condition(FAMILY, ORDER, 0.5)
    constant = [
        replace(outcomes, predictions={**outcomes.predictions, condition: np.full(150, answer)}) for answer in range(3)
    ]
    assert estimate(curve("class_entropy", 0.5), constant).interval == (0.0, 0.0, 0.0)
    runs = [curve_outcomes(seed=seed) for seed in range(3)]
    mean = np.mean([class_entropy(run, run.predictions[condition], rows_asked(run)) for run in runs])
    found = estimate(curve("class_entropy", 0.5), runs).interval
    assert found is not None and found.value == pytest.approx(mean)


def test_the_catalogue_asks_every_point_and_the_score_of_every_curve():
    plan = ReliancePlan(curve_families=("slic",), curve_orders=("random", "most_salient"), curve_fractions=FRACTIONS)
    outcomes = curve_outcomes()
    outcomes = replace(
        outcomes,
        predictions=outcomes.predictions
        | {curve_condition("slic", "random", fraction): outcomes.labels for fraction in FRACTIONS},
    )
    asked = [each for each in measure_members(Context(plan)) if each.measure.group == "curves"]
    assert len(asked) == 3 * 2 * (len(FRACTIONS) + 1)  # similarity is left out where it is not known
    assert len(measure_members(Context(plan, similarity=SIMILARITY))) == len(measure_members(Context(plan))) + 10
    for each in asked:
        key, parameters = each.measure.name.removeprefix("curve_"), each.parameters
        fractions = FRACTIONS if key.endswith("_score") else [parameters["hidden_fraction"]]
        expected = curve_statistic(key.removesuffix("_score"), "slic", parameters["order"], fractions)
        assert each.estimate([outcomes], replicates=20) == estimate(expected, [outcomes], replicates=20)


def test_where_no_image_was_asked_every_figure_is_undefined():
    outcomes = make_outcomes(5, 0)
    nobody = {curve_condition(FAMILY, ORDER, fraction): np.full(5, -1) for fraction in FRACTIONS}
    silent = replace(outcomes, predictions={**outcomes.predictions, **nobody})
    for metric in ("accuracy", "unchanged", "class_entropy"):
        found = estimate(curve(metric, *FRACTIONS), [silent])
        assert found.interval is None and (found.images, found.left_out) == (0, 5)


def test_a_similarity_of_other_classes_is_refused():
    with pytest.raises(ValueError, match=r"similarity must have .* each of 3 classes, got \(4, 4\)"):
        estimate(curve_statistic("similarity", FAMILY, ORDER, [0.5], np.eye(4)), [curve_outcomes()])
