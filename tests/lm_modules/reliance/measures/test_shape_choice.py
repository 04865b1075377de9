"""Shape choices: what does not move them, and whether intervals hold where rows share objects."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from maskrobust.augment import sample_keys
from maskrobust.lm_modules.reliance.estimates.clustered import clustered_variance, design
from maskrobust.lm_modules.reliance.estimates.estimation import estimate
from maskrobust.lm_modules.reliance.holes.swaps import placed_over, swap_index, swap_triples
from maskrobust.lm_modules.reliance.measurement import Asked, Measurement, log_odds
from maskrobust.lm_modules.reliance.measures.shape import TWO_CLASSES, choices, shape_choice
from maskrobust.lm_modules.reliance.outcomes import Outcomes, SceneAnswers
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from tests.lm_modules.reliance.shapes import NUM_CLASSES, shape_bank, shape_batch
from tests.lm_modules.reliance.tables import make_outcomes


def outcomes(behind_j, behind_k, labels_j, labels_k):
    count, classes = behind_j.shape
    asked = torch.stack([torch.zeros(count, dtype=torch.int64), labels_j, labels_k], dim=1)
    ids = np.arange(count)
    return Outcomes(
        num_classes=classes,
        ids=ids,
        objects=ids,
        labels=np.zeros(count, np.int64),
        predictions={"clean": np.zeros(count, np.int64)},
        object_fraction=np.full(count, 0.2),
        swap_label_j=labels_j.numpy(),
        swap_label_k=labels_k.numpy(),
        swap_object_j=(ids + 1) % count,
        swap_object_k=(ids + 2) % count,
        object_valid=np.ones(count, bool),
        swap_valid=np.ones(count, bool),
        log_odds={
            name: log_odds(logits, asked).numpy() for name, logits in (("swap_j", behind_j), ("swap_k", behind_k))
        },
    )


@pytest.fixture
def answers():
    torch.manual_seed(0)
    labels_j, labels_k = torch.randint(1, 4, (300,)), torch.randint(4, 7, (300,))
    logits = torch.randn(300, 7, dtype=torch.float64)
    follow = torch.nn.functional.one_hot(torch.stack([labels_j, labels_k]), 7)
    return logits, follow, labels_j, labels_k


def test_a_network_that_does_not_see_the_hole_is_right_in_exactly_half(answers):
    logits, _, labels_j, labels_k = answers
    assert (choices(outcomes(logits, logits, labels_j, labels_k)).values == 0.5).all()


def test_what_a_hole_leaves_of_the_object_plays_no_part():
    batch, bank = shape_batch(60, 0), shape_bank()
    batch = batch._replace(images=batch.object_mask.float().repeat(1, 3, 1, 1))
    templates = torch.stack(
        [bank.object_masks[bank.labels == label].float().mean(dim=0) for label in range(NUM_CLASSES)]
    )

    def sees_objects(images, visible, _keys):
        """Logits of how much of each class's shape is seen of the object; it sees no hole."""
        return (images[:, :1] * visible).flatten(1) @ templates.flatten(1).T

    asked = {"sees objects": Asked(sees_objects, ReliancePlan(hidden_fractions=()))}
    found = Measurement(asked, bank, NUM_CLASSES).run([batch])["sees objects"]
    assert (choices(found).values == 0.5).all() and len(choices(found).ids) == 60


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_neither_the_scale_of_logits_nor_further_classes_move_choices(answers, scale):
    logits, follow, labels_j, labels_k = answers
    expected = choices(outcomes(logits + follow[0], logits + follow[1], labels_j, labels_k)).values
    more = torch.cat([scale * (logits + 0), torch.full((300, 500), scale * 9.0, dtype=torch.float64)], dim=1)
    follows = scale * torch.nn.functional.pad(follow, (0, 500))
    found = choices(outcomes(more + follows[0], more + follows[1], labels_j, labels_k)).values
    assert np.array_equal(found, expected)
    assert expected.mean() > 0.65


def test_an_interval_has_length_where_all_rows_are_equal(answers):
    logits, _, labels_j, labels_k = answers
    found = estimate(shape_choice(), [outcomes(logits, logits, labels_j, labels_k)])
    assert found.value == 0.5 and found.degrees == 299
    assert 0.49 < found.low < 0.5 < found.high < 0.51


def test_the_variance_and_its_degrees_are_those_of_effects_of_objects():
    """Against its definition with dense matrices, and against draws of effects."""
    rng = np.random.default_rng(0)
    members = np.stack([rng.permutation(14)[:2] for _ in range(70)])
    of_object = np.array([[float(each in row) for each in range(14)] for row in members])
    centred = np.eye(70) - 1.0 / 70
    gram = of_object.T @ centred @ of_object
    form = gram @ gram - gram
    found = design(members)
    correction = (of_object.sum(axis=0) ** 2).sum() / np.trace(form)
    assert found.correction == pytest.approx(correction)
    assert found.degrees == pytest.approx(np.trace(form) ** 2 / (form**2).sum())
    drawn = centred @ of_object @ rng.normal(size=(14, 4000))
    sharing = correction * (((of_object.T @ drawn) ** 2).sum(axis=0) - (drawn**2).sum(axis=0)) / 70**2
    assert sharing.mean() == pytest.approx((of_object.mean(axis=0) ** 2).sum(), rel=0.05)


@pytest.mark.parametrize(("pictures", "views", "outlines"), [(24, 1, 24), (24, 20, 24), (200, 1, 12), (40, 1, 40)])
def test_intervals_hold_where_rows_share_pictures_or_outlines(pictures, views, outlines):
    """Outlines differ more than pictures, and some are cut out often: at 95 %, in at least 92 % of 300 draws."""
    covered, rows, seldom = 0, np.arange(pictures).repeat(views), np.arange(1, outlines + 1)
    for trial in range(300):
        rng = np.random.default_rng(trial)
        lent = (seldom * rng.exponential(size=(len(rows), outlines))).argsort(axis=1)[:, :2]
        values = rng.normal(size=pictures)[rows] + 1.5 * rng.normal(size=outlines)[lent].sum(axis=1)
        variance, degrees = clustered_variance(values, [rows[:, np.newaxis], lent], 1.0)
        covered += abs(values.mean()) <= stats.t.isf(0.025, degrees) * variance**0.5
    assert covered >= 276


def two_classes(strength, scenes=24, shapes=40):
    """A network of two classes that follows shapes by so many logits, asked in empty scenes."""
    rng, columns = np.random.default_rng(0), np.arange(shapes) % 2
    logits = rng.normal(size=(1, scenes, 2)) + 0.2 * rng.normal(size=(shapes, scenes, 2))
    logits[np.arange(shapes), :, columns] += strength
    pairs = np.stack([np.arange(shapes), (np.arange(shapes) + 1) % shapes], axis=1)
    of_scenes = SceneAnswers(
        np.zeros(scenes, int), np.zeros(scenes), np.arange(shapes), columns, pairs, logits.astype(np.float32)
    )
    return replace(make_outcomes(60, 0), num_classes=2, scenes=of_scenes)


def test_with_two_classes_the_shape_is_asked_about_in_empty_scenes_or_nothing_is_said():
    blind, reader = (estimate(shape_choice(), [two_classes(strength)]) for strength in (0.0, 1.0))
    assert blind.low < 0.5 < blind.high and 0.55 < reader.low < reader.value
    logits, pairs = (getattr(two_classes(1.0).scenes, name) for name in ("logits", "pairs"))
    columns = np.arange(40) % 2
    own = [logits[a, s, columns[a]] > logits[a, s, 1 - columns[a]] for a, _ in pairs for s in range(24)]
    assert reader.value == pytest.approx(np.mean(own))  # every shape is in two pairs
    without = estimate(shape_choice(), [replace(two_classes(1.0), scenes=None)])
    assert without.value is None and without.undefined_because == TWO_CLASSES


def test_shapes_are_placed_over_objects_and_keep_every_pixel():
    masks, over = torch.zeros(3, 1, 12, 10, dtype=torch.bool), torch.zeros(3, 1, 12, 10, dtype=torch.bool)
    masks[:, :, :5, :3] = True
    masks[:, :, 1, 1] = False
    over[0, :, 6:9, 4:9] = True
    over[1, :, 11:, 9:] = True
    placed = placed_over(masks, over)
    assert (placed.flatten(1).sum(1) == masks.flatten(1).sum(1)).all()
    assert placed[0, 0, 5:10, 5:8].sum() == 14
    assert placed[1, 0, 7:, 7:].sum() == 14
    assert torch.equal(placed[2], masks[2])


def test_an_image_without_an_object_is_not_asked_about_shapes():
    batch = shape_batch(8, 0)
    batch = batch._replace(object_mask=batch.object_mask & (batch.ids != 3)[:, None, None, None])
    triples = swap_triples(sample_keys(0, batch.ids), batch.labels, batch.object_mask, swap_index(shape_bank()))
    assert triples.valid.tolist() == [place != 3 for place in range(8)]
    assert triples.visible_j[3].all() and not triples.visible_j[4].all()
    assert triples.objects_j[3] == -1 and triples.objects_j[4] >= 0
