"""Holes that images bring along: who lends them, what of a host is mended, and what is asked."""

import numpy as np
import pytest
import torch

from maskrobust.augment import Batch, HoleBank, fold_in, sample_keys
from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.holes.conditions import ConditionSource
from maskrobust.lm_modules.reliance.holes.own import draw_donors, draw_exchanged, mended
from maskrobust.lm_modules.reliance.measurement import Asked, Measurement
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from tests.lm_modules.reliance.shapes import NUM_CLASSES, as_logits, shape_batch
from tests.lm_modules.reliance.tables import assert_equal

PLAN = ReliancePlan(shapes=False, hidden_fractions=(), own_holes=2)


def batch_with_holes(count=48, seed=0):
    """Noise of which each image but every fourth brings a shape along as its hole, and two images show one object."""
    drawn = shape_batch(count, seed, first_id=100)
    visible = ~drawn.object_mask | (drawn.ids % 4 == 0)[:, None, None, None]
    return drawn._replace(object_mask=torch.zeros_like(visible), visible=visible)


def object_of(ids):
    return ids // 2


BATCH = batch_with_holes()
BANK = HoleBank.from_batches([BATCH], object_of)
assert BANK is not None


def seen(images, visible, keys):
    """Exact: a class from sums over what is visible, and over where it is."""
    levels = ((images * 255).long() * visible).sum(dim=(1, 2, 3))
    places = (visible * torch.arange(visible[0].numel()).reshape(visible.shape[1:])).sum(dim=(1, 2, 3))
    return as_logits((levels + places) % NUM_CLASSES)


def measured(batch, size=48):
    measurement = Measurement({"a": Asked(seen, PLAN)}, None, NUM_CLASSES, seed=3, object_of=object_of, own=BANK)
    return measurement.run([batch.select(rows) for rows in torch.arange(len(batch.ids)).split(size)])["a"]


def test_donors_are_of_two_classes_and_of_other_objects_and_every_such_pair_is_drawn():
    keys, objects = sample_keys(0, torch.arange(4000)), torch.full((4000,), 51)
    bank = BANK.select(torch.arange(8))
    (pair,) = draw_donors(keys, objects, bank, 1)
    allowed = {
        (j, k)
        for j in range(8)
        for k in range(8)
        if bank.labels[j] != bank.labels[k] and 51 not in (bank.objects[j], bank.objects[k])
    }
    j, k = ((pair.who[:, place, 0, None] == bank.ids).int().argmax(dim=1) for place in (0, 1))
    counts = np.unique(torch.stack([j, k], dim=1).numpy(), axis=0, return_counts=True)
    assert {tuple(each) for each in counts[0].tolist()} == allowed
    by_j = np.bincount(j, minlength=8)[bank.objects != 51]
    assert abs(by_j - 4000 / len(by_j)).max() < 5 * (4000 / len(by_j)) ** 0.5
    assert torch.equal(pair.visible_j, bank.visible[j]) and torch.equal(pair.visible_k, bank.visible[k])
    assert torch.equal(pair.who[:, :, 1], torch.stack([bank.objects[j], bank.objects[k]], dim=1))
    assert torch.equal(pair.who[:, :, 2], torch.stack([bank.labels[j], bank.labels[k]], dim=1))


@pytest.mark.parametrize(("rows", "pairs", "exchanges"), [([0, 1], 0, 0), ([0, 1, 2], 0, 1), ([0, 1, 2, 3], 1, 1)])
def test_a_host_without_donors_has_no_pair(rows, pairs, exchanges):
    bank, objects = BANK.select(torch.tensor(rows)), BANK.objects[:1]
    bank = HoleBank(bank.visible, torch.arange(len(rows)), bank.ids, bank.objects)
    (pair,) = draw_donors(sample_keys(0, bank.ids[:1]), objects, bank, 1)
    assert pair.valid.sum() == pairs and (pair.valid.all() or (pair.who == -1).all())
    assert draw_exchanged(sample_keys(0, bank.ids[:1]), objects, bank)[1].sum() == exchanges


def test_both_pictures_of_a_pair_remove_the_same_pixels():
    conditions = ConditionSource(None, PLAN, 3, BANK).draw(BATCH, object_of(BATCH.ids))
    named = {each.name: each for each in conditions.all}
    assert list(named) == ["exchanged_holes", *(f"own_hole/{n}/{donor}" for n in range(2) for donor in "jk")]
    for number, pair in enumerate(conditions.donors):
        j, k = (named[f"own_hole/{number}/{donor}"] for donor in "jk")
        assert torch.equal(j.visible, pair.visible_j) and torch.equal(k.visible, pair.visible_k)
        assert j.images is k.images
        kept = (BATCH.known & pair.visible_j & pair.visible_k).expand_as(BATCH.images)
        assert torch.equal(j.images[kept], BATCH.images[kept])
        assert torch.equal(j.images, mended(BATCH.images.where(kept, 0.5), kept[:, :1]))
        assert 0 < pair.differ.sum() < len(BATCH.ids)  # some donors have no hole, both


def test_exchanged_holes_are_shown_in_mended_pictures():
    own = fold_in(sample_keys(3, BATCH.ids), 8)
    visible, some = draw_exchanged(own, object_of(BATCH.ids), BANK)
    expected = seen(mended(BATCH.images, BATCH.known), visible, own).argmax(dim=1)
    found = measured(BATCH)
    assert some.all() and np.array_equal(found.predictions_under("exchanged_holes"), expected)


def test_answers_depend_on_seed_and_id_alone_and_not_on_what_lies_in_the_holes():
    expected = measured(BATCH)
    order = torch.randperm(len(BATCH.ids), generator=torch.Generator().manual_seed(0))
    assert_equal(measured(BATCH.select(order), 7), expected)
    noise = torch.where(BATCH.known, BATCH.images, torch.rand(BATCH.images.shape))
    assert_equal(measured(BATCH._replace(images=noise)), expected)


def test_pictures_of_equal_holes_are_not_asked_about():
    found = measured(BATCH)
    for number, who in found.donors.items():
        j, k = (np.searchsorted(BANK.ids.numpy(), who[:, place, 0]) for place in (0, 1))
        equal = (BANK.visible[j] == BANK.visible[k]).flatten(1).all(dim=1).numpy()
        for donor in "jk":
            name = f"own_hole/{number}/{donor}"
            assert equal.any() and np.array_equal(found.predictions_under(name) < 0, equal)


def test_a_bank_is_none_without_holes_and_does_not_depend_on_the_order_of_batches():
    assert HoleBank.from_batches([BATCH._replace(visible=None)]) is None
    order = torch.randperm(len(BATCH.ids), generator=torch.Generator().manual_seed(0))
    shuffled = HoleBank.from_batches([BATCH.select(rows) for rows in order.split(9)], object_of)
    assert all(torch.equal(a, b) for a, b in zip(vars(shuffled).values(), vars(BANK).values(), strict=True))
    small = Batch(BATCH.ids, BATCH.images, BATCH.object_mask[..., 1:], BATCH.labels)
    with pytest.raises(InputError, match="resize the images to one size"):
        HoleBank.from_batches([BATCH, small])


def test_a_plan_with_own_holes_needs_images_that_lend_some():
    with pytest.raises(InputError, match="give one, or set own_holes to 0"):
        Measurement({"a": Asked(seen, PLAN)}, None, NUM_CLASSES)
