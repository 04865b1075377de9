"""Several arms against one, by Holm's levels; outline pulls over objects crossed with scenes."""

import itertools
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from scipy import stats

from maskrobust.lm_modules.reliance.estimates.comparison import MagnitudeDifference, compare_magnitudes, holm_levels
from maskrobust.lm_modules.reliance.estimates.estimation import (
    Columns,
    Part,
    Statistic,
    WithError,
    estimate,
    estimate_pair,
)
from maskrobust.lm_modules.reliance.holes.scenes import alike_pairs
from maskrobust.lm_modules.reliance.measures.outline_pull import outline_pulls
from maskrobust.lm_modules.reliance.measures.shape import silhouette_leak
from tests.lm_modules.reliance.shapes import shape_bank
from tests.lm_modules.reliance.tables import make_outcomes


def arm(skill, seed=0, images=400):
    return [make_outcomes(images, seed=seed + run, skill=skill) for run in range(5)]


def with_error(value):
    return WithError(value, Part(0.01, 4), Part(0.005, 99))


@pytest.mark.parametrize("sign", [1, -1])
def test_the_levels_outside_and_within_a_margin_are_those_of_t_tests(sign):
    """Two-sided outside of it, for the sign is not known ahead; one-sided at the nearer bound within it."""
    seeds, margin = sign * (0.1 + 0.05 * np.random.default_rng(2).normal(size=6)), 0.05
    number = WithError(seeds.mean(), Part(seeds.var(ddof=1) / 6, 5), Part(0.0, 99))
    at_margin = stats.ttest_1samp(seeds, sign * margin).pvalue
    assert number.level_outside(margin) == pytest.approx(at_margin, rel=1e-6)
    assert number.level_within(0.2) == pytest.approx(stats.ttest_1samp(seeds, sign * 0.2).pvalue / 2, rel=1e-6)
    assert number.level_outside(0.2) == 1.0 and number.level_within(margin) == pytest.approx(1 - at_margin / 2)
    for level in (0.9 * at_margin, 1.1 * at_margin):
        interval = number.interval(1 - level)
        assert (interval.low > margin or interval.high < -margin) == (level > number.level_outside(margin))


@pytest.mark.parametrize("seed", range(10))
def test_each_bound_clears_the_margin_above_the_level_for_it_and_nowhere_else(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.normal(0, 0.2, 2)
    magnitudes = MagnitudeDifference(with_error(first - second), with_error(first + second))
    margin = 0.05
    for level in rng.uniform(0.001, 1.0, 30):
        found = magnitudes.interval(level, level)
        assert (found.low > margin) == (level > magnitudes.level_to_exceed(margin))
        assert (found.high < margin) == (level > magnitudes.level_to_fall_below(margin))


def test_the_bounds_of_each_direction_have_the_levels_of_holms_procedure():
    skills = {"clear": 0.9, "equal": 0.3, "clearer": 1.0, "less": 0.1}
    arms = {name: arm(skill, seed=10 * place) for place, (name, skill) in enumerate(skills.items())}
    pairs = {name: (runs, arm(0.3, seed=100)) for name, runs in arms.items()}
    found = compare_magnitudes(silhouette_leak(), pairs)
    assert list(found) == list(arms)
    low = {name: each.level_low for name, each in found.items()}
    assert sorted([low["clear"], low["clearer"]]) == pytest.approx([0.05 / 4, 0.05 / 3])
    assert low["equal"] == low["less"] == pytest.approx(0.05 / 2)
    assert found["less"].level_high == pytest.approx(0.05 / 4)
    for name, each in found.items():
        assert (each.difference.interval.low > 0.0) == (name in ("clear", "clearer"))
        assert (each.difference.low > 0) == (name in ("clear", "clearer"))


def test_an_undefined_figure_clears_nothing_and_keeps_its_reason():
    runs = arm(0.5)
    nothing = np.full_like(runs[0].labels, -1)
    nowhere = [replace(run, predictions={**run.predictions, "silhouette": nothing}) for run in runs]
    found = compare_magnitudes(silhouette_leak(), {"a": (nowhere, nowhere), "b": (nowhere, nowhere)})
    for each in found.values():
        assert each.difference.interval is None
        assert each.difference.low is None
        assert each.difference.undefined_because == "undefined because no image is valid for it."
        assert (each.level_low, each.level_high) == pytest.approx((0.025, 0.025))


LEVEL = 0.05


@pytest.mark.parametrize(
    ("p_values", "divisors"),
    [
        ([0.2], [1]),
        ([0.001, 0.001, 0.001], [3, 2, 1]),
        ([0.04, 0.001, 0.02], [1, 3, 2]),
        ([0.03, 0.001, 0.026], [2, 3, 2]),
        ([0.9, 0.02, 0.5, 0.001], [3, 3, 3, 4]),
        ([0.5, 0.02, 0.9], [3, 3, 3]),
    ],
)
def test_levels_grow_while_hypotheses_are_rejected_and_stay_where_that_ends(p_values, divisors):
    assert holm_levels(p_values, LEVEL) == pytest.approx([LEVEL / divisor for divisor in divisors])


@pytest.mark.parametrize(("seeds", "of_seeds"), [(2, 1.0), (3, 1.0), (8, 1.0), (3, 0.1)])
def test_bounds_hold_with_few_seeds_whatever_varies(seeds, of_seeds):
    """Differences of mean 0 whose seeds and images vary."""
    rng = np.random.default_rng(seeds)
    statistic = Statistic(
        lambda run: Columns(run.ids, run.ids, run.object_fraction[np.newaxis], 0), scale=(-np.inf, np.inf)
    )
    made, trials = make_outcomes(40, seed=0), 500
    nothing = [replace(made, object_fraction=np.zeros(40))] * seeds
    missed = dict.fromkeys((0.025, 0.0042), 0)
    for _ in range(trials):
        runs = [
            replace(made, object_fraction=each) for each in rng.normal(0, of_seeds, (seeds, 1)) + rng.normal(0, 1, 40)
        ]
        _, signed = estimate_pair(statistic, runs, nothing)
        for level in missed:
            missed[level] += signed[0].low(level) > 0
    for level, count in missed.items():
        assert stats.binomtest(count, trials, level, alternative="greater").pvalue > 1e-3


@pytest.mark.parametrize("share", [0.0, 0.05])
def test_a_magnitudes_bounds_are_wrong_in_at_most_their_level_where_the_other_network_is_at_0(share):
    """With signed bounds at the whole level they would be wrong in nearly twice as many."""
    rng, seeds, trials, level, margin = np.random.default_rng(1), 4, 600, 0.05, 0.05
    wrong = 0
    a, b = share + 0.02 * rng.normal(size=(trials, seeds)), 0.02 * rng.normal(size=(trials, seeds))

    def number(values):
        return WithError(values.mean(), Part(values.var(ddof=1) / seeds, seeds - 1), Part(0.0, 99))

    for of_a, of_b in zip(a, b, strict=True):
        found = MagnitudeDifference(number(of_a - of_b), number(of_a + of_b)).interval(level, level)
        wrong += found.low > 0.0 if share == 0.0 else found.high < margin
    assert stats.binomtest(wrong, trials, level, alternative="greater").pvalue > 1e-3
    assert share == 0.0 or wrong / trials > 0.6 * level


SHAPES, SCENES, CLASSES = 12, 6, 5
COLUMNS = np.arange(SHAPES) % CLASSES
PAIRS = np.array([pair for pair in itertools.combinations(range(SHAPES), 2) if len(set(COLUMNS[list(pair)])) == 2])


def draw(own, seed=0):
    """Logits of noise, to which the hole of each shape adds `own` for its own class."""
    logits = np.random.default_rng(seed).normal(size=(SHAPES, SCENES, CLASSES))
    logits[np.arange(SHAPES), :, COLUMNS] += own
    return logits


def test_pulls_are_the_formula_written_out():
    logits = draw(0.3)
    pulls = outline_pulls(torch.from_numpy(logits), torch.from_numpy(COLUMNS), torch.from_numpy(PAIRS))
    for number, (i, j) in enumerate(PAIRS):
        a, b = COLUMNS[i], COLUMNS[j]
        for s in range(SCENES):
            expected = ((logits[i, s, a] - logits[i, s, b]) - (logits[j, s, a] - logits[j, s, b])) / 2
            assert pulls[number, s] == pytest.approx(expected)


def test_pulls_within_rounding_are_none():
    flat = np.full((SHAPES, 8, CLASSES), 7.0) * (1 + 1e-7 * draw(0.0, 1)[:, :1])
    assert (outline_pulls(flat, COLUMNS, PAIRS) == 0).all()


def test_pairs_are_of_two_classes_and_alike_in_area_and_circle():
    bank = shape_bank(60)
    pairs = alike_pairs(bank.object_masks, bank.labels).tolist()
    radii = []
    for mask in bank.object_masks[:, 0].numpy():
        points = np.argwhere(mask)[:, ::-1].astype(np.float32)
        middle, _ = cv2.minEnclosingCircle(points)
        radii.append(np.hypot(*(points - middle).T).max())
    areas = bank.object_masks.flatten(1).sum(dim=1).tolist()
    for i, j in itertools.combinations(range(60), 2):
        ratios = [max(size[i], size[j]) / min(size[i], size[j]) for size in (areas, radii)]
        if all(abs(ratio - 1.2) > 1e-4 for ratio in ratios):
            assert ([i, j] in pairs) == (bank.labels[i] != bank.labels[j] and max(ratios) < 1.2)
    assert len(pairs) > 20


@pytest.mark.parametrize(("objects", "scenes"), [(20, 2), (20, 8), (60, 4)])
def test_intervals_hold_the_truth_with_few_objects_and_few_scenes(objects, scenes):
    """Object, scene and both together vary: at a level of 95 %, in at least 91 % of 200 draws."""
    held = 0
    for trial in range(200):
        rng = np.random.default_rng(trial)
        both = np.array([pair for pair in itertools.combinations(range(objects), 2) if rng.random() < 0.2])
        of_objects = rng.normal(size=(objects, 1)) + 0.6 * rng.normal(size=(objects, scenes))
        values = 0.3 * rng.normal(size=scenes) + of_objects[both].sum(axis=1) / 2
        pair, scene = (each.ravel() for each in np.indices(values.shape))
        columns = Columns(np.arange(values.size), -1 - scene, values.reshape(1, -1), 0, outlines=both[pair])
        found = estimate(Statistic(lambda columns: columns, scale=(-np.inf, np.inf)), [columns])
        held += found.low <= 0.0 <= found.high
    assert held >= 182
