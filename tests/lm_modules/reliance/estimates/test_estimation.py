"""Figures over seeds and differences between arms; intervals against SciPy, a plain loop and the truth."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from maskrobust.lm_modules.reliance.catalogue import MeasureMember, catalogue
from maskrobust.lm_modules.reliance.estimates.clustered import mean_variance
from maskrobust.lm_modules.reliance.estimates.comparison import compare_magnitudes
from maskrobust.lm_modules.reliance.estimates.estimation import (
    Columns,
    Estimate,
    Statistic,
    estimate,
    estimate_difference,
    right_answers,
)
from maskrobust.lm_modules.reliance.measures.accuracy import clean_accuracy
from maskrobust.lm_modules.reliance.measures.shape import silhouette_leak
from tests.lm_modules.reliance.tables import NUM_CLASSES, make_outcomes, misled


def arm(skill, seeds=4, first_seed=0):
    return [make_outcomes(400, seed=1 + first_seed + seed, skill=skill, invalid=(1, 2)) for seed in range(seeds)]


def leak_of(run):
    valid = run.object_valid
    right = (run.predictions_under("silhouette") == run.labels).astype(float) - (
        run.predictions_under("circle") == run.labels
    )
    return float(right[valid].mean())


def magnitude_difference(measure, runs_a, runs_b, confidence=0.95):
    """The difference of magnitudes of two arms: a comparison that is the only one."""
    compared = compare_magnitudes(measure, {"a": (runs_a, runs_b)}, confidence=confidence)
    return compared["a"].difference


def test_the_figure_over_seeds_is_the_mean_of_their_figures():
    runs = arm(0.5)
    found = estimate(silhouette_leak(), runs)
    assert found.interval.value == pytest.approx(np.mean([leak_of(run) for run in runs]))
    assert found.interval.low < found.interval.value < found.interval.high
    assert (found.images, found.left_out) == (398, 2)


@pytest.mark.parametrize(
    "made",
    [
        Statistic(lambda run: right_answers(run, "circle", "clean"), lambda means: means[..., 0] / means[..., 1]),
        lambda *_: Estimate(math.nan, None, None, 7, 0),
        lambda *_: Estimate(0.5, -math.inf, 0.7, 7, 0),
    ],
)
def test_a_measure_that_is_no_finite_number_is_undefined_and_says_so(made):
    """A ratio without a denominator, of a network that is never right, and an estimator of one's own."""
    run = make_outcomes(100, seed=1)
    run = replace(run, predictions={**run.predictions, "clean": (run.labels + 1) % NUM_CLASSES})
    found = MeasureMember(catalogue()["clean_accuracy"], {}, made).estimate([run])
    assert (found.value, found.low, found.high) == (None, None, None)
    assert "divides by zero" in str(found.undefined_because)
    assert estimate(clean_accuracy(), [run]).value == 0.0


def all_misled(runs):
    return [misled(run) for run in runs]


SIGNS = [
    (list, list),
    (all_misled, list),
    (list, all_misled),
    (all_misled, all_misled),
]


@pytest.mark.parametrize(("sign_a", "sign_b"), SIGNS, ids=["++", "-+", "+-", "--"])
def test_a_difference_of_magnitudes_is_the_same_whichever_way_the_effects_go(sign_a, sign_b):
    strong, weak = arm(0.8), arm(0.3, first_seed=50)
    plain = magnitude_difference(silhouette_leak(), strong, weak).interval
    found = magnitude_difference(silhouette_leak(), sign_a(strong), sign_b(weak)).interval
    back = magnitude_difference(silhouette_leak(), sign_b(weak), sign_a(strong)).interval
    assert plain.value == estimate_difference(silhouette_leak(), strong, weak).value and plain.low > 0
    assert found == pytest.approx(plain)
    assert back == pytest.approx((-plain.value, -plain.high, -plain.low))


def test_what_an_image_adds_to_a_ratio_has_no_scale():
    """The interval is that of a number without ends, cut off at these."""
    run = make_outcomes(100, seed=1)

    def ratio(**options):
        statistic = Statistic(
            lambda outcomes: right_answers(outcomes, "circle", "clean"),
            lambda means: means[..., 0] / (2.0 * means[..., 1]),
            **options,
        )
        found = estimate(statistic, [run]).interval
        assert found.high < 1.0
        return found

    assert ratio(is_ratio=True) == ratio(scale=(-math.inf, math.inf))
    assert ratio().high > ratio(is_ratio=True).high


def test_runs_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="same images"):
        estimate(silhouette_leak(), [make_outcomes(5, seed=0), make_outcomes(6, seed=0)])
    with pytest.raises(ValueError, match="got 4 and 3"):
        estimate_difference(silhouette_leak(), arm(0.5), arm(0.5, seeds=3))
    with pytest.raises(ValueError, match="got 4 and 3"):
        magnitude_difference(silhouette_leak(), arm(0.5), arm(0.5, seeds=3))


def with_values(values):
    """One run for each row of values (S, N), whose mean is the statistic `VALUE`."""
    made = make_outcomes(values.shape[1], seed=0)
    return [replace(made, object_fraction=each) for each in values]


VALUE = Statistic(
    lambda run: Columns(run.ids, run.objects, run.object_fraction[np.newaxis], 0), scale=(-math.inf, math.inf)
)


@pytest.mark.parametrize("images", [2, 30])
def test_the_interval_of_a_run_and_of_a_paired_difference_is_scipys_students(images):
    first, second = with_values(np.random.default_rng(images).normal(size=(2, images)))
    for found, values in (
        (estimate(VALUE, [first]), first.object_fraction),
        (estimate_difference(VALUE, [first], [second]), first.object_fraction - second.object_fraction),
    ):
        expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
        assert (found.value, found.low, found.high) == pytest.approx((values.mean(), expected.low, expected.high))
        assert found.degrees == images - 1


def test_the_interval_over_seeds_that_alone_vary_is_scipys_students():
    values = np.random.default_rng(0).normal(size=5)
    found = estimate(VALUE, with_values(np.repeat(values[:, None], 30, axis=1)))
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (found.value, found.low, found.high) == pytest.approx((values.mean(), expected.low, expected.high))


@pytest.mark.parametrize("right", [0, 1])
def test_a_fraction_of_none_or_all_has_the_other_bound_of_the_exact_interval(right):
    of = make_outcomes(30, seed=1)
    answers = (of.labels + 1 - right) % NUM_CLASSES
    of = replace(of, objects=of.objects // 3, predictions={"clean": answers})
    found = estimate(clean_accuracy(), [of, of])
    exact = stats.binomtest(right * 11, 11).proportion_ci(0.95, "exact")  # 10 // 3 to 39 // 3
    assert (found.value, found.low, found.high) == pytest.approx((right, exact.low, exact.high))


def test_values_beyond_the_scale_are_refused_and_one_object_defines_nothing_on_an_endless_one():
    (run,) = with_values(np.array([[1.0, 1.2]]))
    bounded, one_object = replace(VALUE, scale=(0.0, 1.0)), replace(run, objects=np.zeros(2, np.int64))
    with pytest.raises(ValueError, match=r"must lie on its scale, 0 to 1, got 1\.1 to 1\.1;"):
        estimate(bounded, [run])
    assert "rests on one object" in str(estimate(VALUE, [one_object]).undefined_because)
    half = replace(one_object, object_fraction=np.array([0.25, 0.75]))
    assert estimate(bounded, [half]).interval == (0.5, 0.0, 1.0)


def test_the_variance_over_objects_is_that_of_their_sums_and_of_two_objects_more_at_the_ends():
    """Written out object by object."""
    rng = np.random.default_rng(3)
    objects = rng.integers(100, 130, 90)
    values, numbers = rng.normal(size=90) + objects, np.unique(objects)
    sums = [sum(values[i] - values.mean() for i in np.flatnonzero(objects == each)) for each in numbers]
    count = len(numbers)
    plain = sum(each**2 for each in sums) / 90**2 * count / (count - 1)
    assert mean_variance(values, objects, math.inf) == (pytest.approx(plain), count - 1)
    assert mean_variance(values, objects, 40.0)[0] == pytest.approx(plain + 2 * (20.0 / count) ** 2)


def test_the_scale_of_a_difference_is_twice_as_long():
    """Two objects more lie at -1 and 1, the ends of what two fractions differ by."""
    first, second = with_values(np.random.default_rng(5).uniform(size=(2, 20)))
    values = first.object_fraction - second.object_fraction
    error = math.sqrt(values.var(ddof=1) / 20 + 2 * (1.0 / 20) ** 2)
    found = estimate_difference(replace(VALUE, scale=(0.0, 1.0)), [first], [second])
    low, high = stats.t.interval(0.95, 19, values.mean(), error)
    assert (found.low, found.high) == pytest.approx((low, high))


@pytest.mark.parametrize(("images", "share", "views"), [(20, 0.02, 1), (200, 0.5, 1), (50, 0.9, 1), (40, 0.5, 6)])
def test_intervals_of_fractions_hold_the_truth(images, share, views):
    """At a level of 95 %, in at least 91 % of 400 draws; `views` images of an object are mostly right together."""
    rng, made, held = np.random.default_rng(0), make_outcomes(images * views, seed=0), 0
    of = replace(made, objects=np.repeat(np.arange(images), views))
    for _ in range(400):
        skill = rng.beta(share, 1 - share, images) if views > 1 else np.full(images, share)
        right = rng.random(images * views) < np.repeat(skill, views)
        answers = np.where(right, of.labels, (of.labels + 1) % NUM_CLASSES)
        found = estimate(clean_accuracy(), [replace(of, predictions={"clean": answers})])
        held += found.low <= share <= found.high
    assert held >= 364
