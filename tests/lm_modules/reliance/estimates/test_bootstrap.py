"""Bootstrap replicates against SciPy, a plain loop and the truth of simulated data."""

import numpy as np
import pytest
from scipy import stats

from maskrobust.lm_modules.reliance.estimates.bootstrap import hierarchical_bootstrap_means, percentile_interval


def bootstrap_means(columns, replicates=2000, seed=0):
    """Means over resampled images of columns (C, N), those of one seed."""
    return hierarchical_bootstrap_means(columns[:, np.newaxis], replicates, seed)


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


def test_replicates_over_images_are_distributed_as_those_of_a_plain_loop():
    columns = paired_columns(80, 0)
    rng = np.random.default_rng(1)
    ours = bootstrap_means(columns, replicates=8000)
    loop = np.array([columns[:, rng.integers(0, 80, 80)].mean(axis=1) for _ in range(8000)])
    for combine in ([1, 0], [0, 1], [1, -1]):
        assert stats.ks_2samp(ours @ combine, loop @ combine).pvalue > 1e-3
        assert (ours @ combine).std() == pytest.approx((loop @ combine).std(), rel=0.04)


def test_hierarchical_replicates_are_distributed_as_those_of_a_plain_loop():
    rng = np.random.default_rng(1)
    columns = rng.normal(size=(2, 4, 1)) + rng.normal(size=(1, 1, 60)) + rng.normal(size=(2, 4, 60))
    ours = hierarchical_bootstrap_means(columns, replicates=8000)
    loop = np.empty((8000, 2))
    for replicate in range(8000):
        seeds, images = rng.integers(0, 4, 3), rng.integers(0, 60, 60)
        loop[replicate] = columns[:, seeds][:, :, images].mean(axis=(1, 2))
    for combine in ([1, 0], [0, 1], [1, -1]):
        assert stats.ks_2samp(ours @ combine, loop @ combine).pvalue > 1e-3
        assert (ours @ combine).std() == pytest.approx((loop @ combine).std(), rel=0.04)


@pytest.mark.parametrize(
    ("seeds", "where_seeds_decide", "where_images_count"), [(2, 0.50, 0.86), (3, 0.75, 0.91), (5, 0.86, 0.93)]
)
def test_few_seeds_hold_the_truth_as_seldom_as_is_said(seeds, where_seeds_decide, where_images_count):
    for standard_error, expected in ((0.0, where_seeds_decide), (0.5, where_images_count)):
        rng = np.random.default_rng(1)
        hits = 0
        for trial in range(1000):
            columns = rng.normal(size=(1, seeds, 1)) + rng.normal(0, standard_error * 30**0.5, (1, 1, 30))
            means = hierarchical_bootstrap_means(columns, replicates=300, seed=trial)
            interval = percentile_interval(0.0, means[:, 0])
            hits += interval.low <= 0 <= interval.high
        assert hits / 1000 == pytest.approx(expected, abs=0.04)


def test_the_percentile_interval_holds_the_share_asked_for():
    replicates = np.random.default_rng(0).permutation(1001) / 1000
    assert percentile_interval(0.5, replicates, confidence=0.9) == pytest.approx((0.5, 0.05, 0.95))


def test_unusable_input_is_refused():
    with pytest.raises(ValueError, match="one image, got 1 and 0"):
        bootstrap_means(np.zeros((2, 0)))
    with pytest.raises(ValueError, match="finite"):
        bootstrap_means(np.array([[0.0, np.nan]]))
    with pytest.raises(ValueError, match=r"got 1\.0"):
        percentile_interval(0.0, np.zeros(3), confidence=1.0)


def test_objects_are_drawn_with_all_of_their_images():
    rng = np.random.default_rng(3)
    objects = rng.integers(100, 130, 90)
    columns = np.stack([rng.normal(size=90) + objects, rng.normal(size=90)])
    ours = hierarchical_bootstrap_means(columns[:, np.newaxis], 8000, 0, objects)
    images_of = [np.flatnonzero(objects == each) for each in np.unique(objects)]
    loop = np.empty((8000, 2))
    for replicate in range(8000):
        drawn = np.concatenate([images_of[each] for each in rng.integers(0, len(images_of), len(images_of))])
        loop[replicate] = columns[:, drawn].mean(axis=1)
    for combine in ([1, 0], [0, 1]):
        assert stats.ks_2samp(ours @ combine, loop @ combine).pvalue > 1e-3
        assert (ours @ combine).std() == pytest.approx((loop @ combine).std(), rel=0.04)
    of_images = bootstrap_means(columns, 8000)
    assert ours[:, 0].std() > 1.5 * of_images[:, 0].std()


def test_with_one_image_an_object_the_numbers_are_those_of_images_to_the_last_bit():
    columns = np.random.default_rng(0).normal(size=(2, 3, 70))
    of_images = hierarchical_bootstrap_means(columns, 100, 4)
    for objects in (np.arange(70), 1000 - 3 * np.arange(70)):
        assert np.array_equal(hierarchical_bootstrap_means(columns, 100, 4, objects), of_images)
