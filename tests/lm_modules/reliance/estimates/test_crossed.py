"""Outline pulls against slow, obvious forms, and the intervals over objects crossed with scenes."""

import itertools

import cv2
import numpy as np
import pytest
import torch

from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.estimates.crossed import (
    crossed_mean,
    outline_pull,
    outline_pulls,
    permutation_p_value,
    single_scene_wins,
)
from maskrobust.lm_modules.reliance.holes.scenes import alike_pairs
from tests.lm_modules.reliance.shapes import shape_bank

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
    assert outline_pull(logits, COLUMNS, PAIRS).value == pytest.approx(pulls.mean())


def test_wins_of_single_scenes_do_not_depend_on_their_number_and_rounding_is_a_tie():
    logits = np.tile(draw(1.0)[:, :1], (1, 8, 1))
    wins = [single_scene_wins(logits[:, :scenes], COLUMNS, PAIRS).mean() for scenes in (1, 2, 8)]
    assert wins[0] == wins[1] == wins[2] and 0.5 < wins[0] < 1.0
    flat = np.full_like(logits, 7.0) * (1 + 1e-7 * draw(0.0, 1)[:, :1])
    assert (single_scene_wins(flat, COLUMNS, PAIRS) == 0.5).all()


def test_the_error_is_that_of_two_way_tables_where_each_pair_has_objects_of_its_own():
    """Then pairs are rows of a table, and the variance is (MS_rows + MS_scenes - MS_rest) / cells (Searle)."""
    values = np.random.default_rng(2).normal(size=(1, 7, 5))
    values += np.random.default_rng(3).normal(size=(7, 1)) + np.random.default_rng(4).normal(size=5)
    found = crossed_mean(values, np.arange(14).reshape(7, 2))
    table = values[0]
    rows, scenes = table.mean(axis=1), table.mean(axis=0)
    rest = table - rows[:, None] - scenes + table.mean()
    mean_squares = 5 * rows.var(ddof=1) + 7 * scenes.var(ddof=1) - (rest**2).sum() / (6 * 4)
    assert found.error**2 == pytest.approx(mean_squares / 35)
    assert (found.objects.degrees, found.scenes[0].degrees) == (pytest.approx(6.0), 4.0)


def test_scenes_of_each_kind_vary_by_themselves():
    """A kind that differs from the other, but within which nothing varies, adds nothing to the error."""
    values = np.zeros((1, len(PAIRS), SCENES))
    values[..., 3:] = 1.0
    kinds = ["flat"] * 3 + ["noise"] * 3
    assert crossed_mean(values, PAIRS, kinds).interval() == (0.5, 0.5, 0.5)
    assert crossed_mean(values, PAIRS).error > 0.2


def test_labels_dealt_at_random_are_as_good_as_the_own_ones_where_outlines_are_not_read():
    assert permutation_p_value(draw(1.0), COLUMNS, PAIRS, permutations=199) == 1 / 200
    null = [permutation_p_value(draw(0.0, seed), COLUMNS, PAIRS, permutations=39) for seed in range(100)]
    assert 0.35 < np.mean(null) < 0.65 and np.mean(np.array(null) <= 0.1) <= 0.2


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


@pytest.mark.parametrize(("pairs", "scenes"), [(PAIRS, 1), (np.array([[0, 1], [1, 2], [0, 2]]), 4), (PAIRS[:0], 4)])
def test_what_has_no_interval_is_refused(pairs, scenes):
    with pytest.raises(InputError, match="at least 2 scenes of each kind and pairs of at least 4 objects"):
        crossed_mean(np.zeros((1, len(pairs), scenes)), pairs)


@pytest.mark.parametrize(("objects", "scenes"), [(20, 2), (20, 8), (60, 4)])
def test_intervals_hold_the_truth_with_few_objects_and_few_scenes(objects, scenes):
    """Object, scene and both together vary: at a level of 95 %, in at least 91 % of 200 draws."""
    held = 0
    for trial in range(200):
        rng = np.random.default_rng(trial)
        both = np.array([pair for pair in itertools.combinations(range(objects), 2) if rng.random() < 0.2])
        of_objects = rng.normal(size=(objects, 1)) + 0.6 * rng.normal(size=(objects, scenes))
        values = 0.3 * rng.normal(size=scenes) + of_objects[both].sum(axis=1) / 2
        low, high = crossed_mean(values[None], both).interval()[1:]
        held += low <= 0.0 <= high
    assert held >= 182
