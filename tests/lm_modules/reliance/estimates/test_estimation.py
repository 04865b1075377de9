"""Figures over seeds and differences between arms; bootstrap replicates against SciPy, a plain loop and the truth."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from maskrobust.lm_modules.reliance.catalogue import MeasureMember, catalogue
from maskrobust.lm_modules.reliance.estimates.bootstrap import bootstrap_means, percentile_interval
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
    """A ratio without a denominator, of a network that is never right; and an estimator of one's own."""
    run = make_outcomes(100, seed=1)
    run = replace(run, predictions={**run.predictions, "clean": (run.labels + 1) % NUM_CLASSES})
    found = MeasureMember(catalogue()["clean_accuracy"], {}, made).estimate([run], replicates=50)
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


@pytest.mark.parametrize(("counted", "is_defined"), [(20, False), (50, False), (56, False), (80, True)])
def test_a_ratio_is_undefined_unless_its_denominator_surely_lies_above_zero(counted, is_defined):
    """Of clean accuracy over the fraction of 100 images that is counted beyond a half."""
    run = make_outcomes(100, seed=1)
    right = run.predictions_under("clean") == run.labels

    def beyond_half(means):
        return means[..., 1] - 0.5

    columns = Columns(run.ids, run.objects, np.stack([right, np.arange(100) < counted]).astype(float), 0)
    ratio = Statistic(
        lambda _: columns,
        lambda means: means[..., 0] / beyond_half(means),
        beyond_half,
        "what is counted beyond a half",
    )
    found, difference = estimate(ratio, [run]), estimate_difference(ratio, [run], [run])
    assert (difference.interval is not None) == (found.interval is not None) == is_defined
    if is_defined:
        assert found.interval.value == pytest.approx(right.mean() / (counted / 100 - 0.5))
    else:
        assert (
            "what is counted beyond a half is" in found.undefined_because
            and "not lie above 0" in found.undefined_because
        )


def test_runs_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="same images"):
        estimate(silhouette_leak(), [make_outcomes(5, seed=0), make_outcomes(6, seed=0)])
    with pytest.raises(ValueError, match="got 4 and 3"):
        estimate_difference(silhouette_leak(), arm(0.5), arm(0.5, seeds=3))
    with pytest.raises(ValueError, match="got 4 and 3"):
        magnitude_difference(silhouette_leak(), arm(0.5), arm(0.5, seeds=3))


def paired_columns(images, seed):
    """Two correlated columns of zeros and ones."""
    rng = np.random.default_rng(seed)
    common = rng.random(images)
    return np.stack([common < 0.6, common + rng.normal(0, 0.2, images) < 0.4]).astype(float)


@pytest.mark.parametrize("seed", range(3))
def test_the_interval_of_a_difference_is_that_of_scipys_paired_bootstrap(seed):
    columns = paired_columns(300, seed)
    means = bootstrap_means(columns, replicates=20_000, seed=seed)
    value = columns[0].mean() - columns[1].mean()
    ours = percentile_interval(value, means[:, 0] - means[:, 1])
    reference = stats.bootstrap(
        tuple(columns),
        lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis),
        paired=True,
        method="percentile",
        n_resamples=20_000,
        batch=1000,
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert ours.low == pytest.approx(reference.low, abs=0.05 * (ours.high - ours.low))
    assert ours.high == pytest.approx(reference.high, abs=0.05 * (ours.high - ours.low))
    assert ours.low < value < ours.high


def assert_distributed_alike(ours, loop):
    for combine in ([1, 0], [0, 1], [1, -1]):
        assert stats.ks_2samp(ours @ combine, loop @ combine).pvalue > 1e-3
        assert (ours @ combine).std() == pytest.approx((loop @ combine).std(), rel=0.04)


def with_values(values):
    """One run for each row of values (S, N), whose mean is the statistic `VALUE`."""
    made = make_outcomes(values.shape[1], seed=0)
    return [replace(made, object_fraction=each) for each in values]


VALUE = Statistic(lambda run: Columns(run.ids, run.ids, run.object_fraction[np.newaxis], 0))


def test_the_interval_over_seeds_that_alone_vary_is_scipys_students():
    values = np.random.default_rng(0).normal(size=5)
    found = estimate(VALUE, with_values(np.repeat(values[:, None], 30, axis=1)), replicates=50)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (found.value, found.low, found.high) == pytest.approx((values.mean(), expected.low, expected.high))


def test_the_percentile_interval_holds_the_share_asked_for():
    replicates = np.random.default_rng(0).permutation(1001) / 1000
    assert percentile_interval(0.5, replicates, confidence=0.9) == pytest.approx((0.5, 0.05, 0.95))


@pytest.mark.parametrize("right", [0, 1])
def test_a_fraction_of_none_or_all_has_the_other_bound_of_the_exact_interval(right):
    of = make_outcomes(30, seed=1)
    answers = (of.labels + 1 - right) % NUM_CLASSES
    of = replace(of, objects=of.objects // 3, predictions={"clean": answers})
    found = estimate(clean_accuracy(), [of, of], replicates=50)
    exact = stats.binomtest(right * 11, 11).proportion_ci(0.95, "exact")  # 10 // 3 to 39 // 3
    assert (found.value, found.low, found.high) == pytest.approx((right, exact.low, exact.high))


def test_unusable_input_is_refused():
    with pytest.raises(ValueError, match="finite"):
        bootstrap_means(np.array([[0.0, np.nan]]))


def test_objects_are_drawn_with_all_of_their_images():
    rng = np.random.default_rng(3)
    objects = rng.integers(100, 130, 90)
    columns = np.stack([rng.normal(size=90) + objects, rng.normal(size=90)])
    ours = bootstrap_means(columns, 8000, 0, objects)
    images_of = [np.flatnonzero(objects == each) for each in np.unique(objects)]
    loop = np.empty((8000, 2))
    for replicate in range(8000):
        drawn = np.concatenate([images_of[each] for each in rng.integers(0, len(images_of), len(images_of))])
        loop[replicate] = columns[:, drawn].mean(axis=1)
    assert_distributed_alike(ours, loop)
    of_images = bootstrap_means(columns, 8000)
    assert ours[:, 0].std() > 1.5 * of_images[:, 0].std()


def test_with_one_image_an_object_the_numbers_are_those_of_images_to_the_last_bit():
    columns = np.random.default_rng(0).normal(size=(2, 70))
    of_images = bootstrap_means(columns, 100, 4)
    for objects in (np.arange(70), 1000 - 3 * np.arange(70)):
        assert np.array_equal(bootstrap_means(columns, 100, 4, objects), of_images)
