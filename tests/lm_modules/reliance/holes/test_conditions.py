"""What is hidden under each condition, swap triples, and object crops of masks."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats

from maskrobust.augment import Batch, SilhouetteBank, object_holes, sample_keys
from maskrobust.lm_modules.reliance.holes import conditions as conditions_module
from maskrobust.lm_modules.reliance.holes.conditions import (
    ConditionSource,
    condition_names,
    hole,
    retention_condition,
)
from maskrobust.lm_modules.reliance.holes.swaps import swap_index, swap_triples
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.lm_modules.reliance.probe import object_crops
from tests.lm_modules.reliance.shapes import SIZE, shape_bank, shape_batch

FRACTIONS = (0.0, 0.25, 0.5, 1.0)
PLAN = ReliancePlan(
    hidden_fractions=FRACTIONS,
    patch_size=8,
    transfer_families=("blobs", "silhouettes", "objects", "patches"),
    sampled_share=0.5,
)


def conditions_of(batch, seed=3):
    return ConditionSource(shape_bank(), PLAN, seed).draw(batch)


def tensors_of(conditions):
    by_name = [tensor for condition in conditions.all for tensor in (condition.visible, condition.applies)]
    return [*conditions.holes, *conditions.swaps, *by_name, conditions.redrawn_images, conditions.fill_keys]


def test_both_holes_remove_the_object_and_hide_equally_many_pixels():
    batch = shape_batch(100, 0)
    holes = object_holes(sample_keys(0, batch.ids), batch.object_mask)
    assert holes.valid.all()
    assert not (holes.silhouette_visible & batch.object_mask).any()
    assert not (holes.circle_visible & batch.object_mask).any()
    assert torch.equal((~holes.silhouette_visible).sum((1, 2, 3)), (~holes.circle_visible).sum((1, 2, 3)))


def test_patches_hide_the_fraction_asked_for_and_smaller_holes_lie_within_larger_ones():
    conditions = conditions_of(shape_batch(20, 0))
    visible = [conditions.visible(retention_condition(fraction)) for fraction in FRACTIONS]
    for fraction, mask in zip(FRACTIONS, visible, strict=True):
        assert ((~mask).double().mean(dim=(1, 2, 3)) == fraction).all()
    for smaller, larger in pairwise(visible):
        assert not (larger & ~smaller).any()


def test_redrawn_images_differ_in_the_silhouette_hole_alone():
    batch = shape_batch(20, 0)
    conditions = conditions_of(batch)
    same = (conditions.redrawn_images == batch.images).all(dim=1, keepdim=True)
    assert torch.equal(same, conditions.holes.silhouette_visible)


@pytest.mark.parametrize("batch_size", [1, 7, 24])
def test_conditions_do_not_depend_on_batch_size_or_order(batch_size):
    batch = shape_batch(24, 0)
    expected = tensors_of(conditions_of(batch))
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    parts = [tensors_of(conditions_of(batch.select(chosen))) for chosen in order.split(batch_size)]
    for position, tensor in enumerate(expected):
        drawn = torch.cat([part[position] for part in parts])
        assert torch.equal(drawn.nan_to_num(-1), tensor[order].nan_to_num(-1))


def test_curves_and_matrix_are_asked_about_a_share_of_the_images_and_the_rest_about_all():
    conditions = conditions_of(shape_batch(200, 0))
    applies = {condition.name: condition.applies for condition in conditions.all}
    assert applies["retention/0.5"].all()
    assert 70 < applies["transfer/blobs"].sum() < 130
    assert torch.equal(applies["transfer/blobs"], applies["transfer/patches"])


def test_what_is_made_from_the_object_is_not_asked_about_images_without_one():
    batch = shape_batch(50, 0)
    batch.object_mask[:10] = False
    plan = ReliancePlan(transfer_families=("objects", "blobs"), sampled_share=1.0)
    conditions = ConditionSource(shape_bank(), plan, seed=0).draw(batch)
    applies = {condition.name: condition.applies for condition in conditions.all}
    assert not applies["transfer/objects"][:10].any() and applies["transfer/objects"][10:].all()
    assert applies["transfer/blobs"].all()


def test_a_condition_outside_the_plan_is_refused():
    with pytest.raises(ValueError, match=r"one of silhouette, circle, .*, got 'retention/0\.3'; add it"):
        conditions_of(shape_batch(4, 0)).visible(retention_condition(0.3))


def test_a_bank_of_another_size_is_refused():
    batch = shape_batch(4, 0)
    wide = Batch(batch.ids, batch.images[..., :16], batch.object_mask[..., :16], batch.labels)
    with pytest.raises(ValueError, match=rf"\({SIZE}, 16\), got \({SIZE}, {SIZE}\)"):
        conditions_of(wide)


SIDE = 12


def bank_of(areas, labels):
    """Objects of given areas, each the first pixels of the image."""
    masks = torch.arange(SIDE * SIDE) < torch.tensor(areas)[:, None]
    return SilhouetteBank(masks.reshape(-1, 1, SIDE, SIDE), torch.tensor(labels), torch.arange(len(areas)))


def random_bank(objects, classes, seed):
    rng = np.random.default_rng(seed)
    return bank_of(rng.integers(1, SIDE * SIDE, objects).tolist(), rng.integers(0, classes, objects).tolist())


def draw(bank, labels, seed=0):
    keys = sample_keys(seed, torch.arange(len(labels)))
    return swap_triples(keys, labels, SIDE, SIDE, index=swap_index(bank))


def hidden_pixels(visible):
    return (~visible).sum(dim=(1, 2, 3))


@pytest.mark.parametrize("classes", [3, 5, 40])
@pytest.mark.parametrize("seed", range(2))
def test_k_is_of_a_third_class_and_closest_in_area(classes, seed):
    bank = random_bank(60, classes, seed)
    labels = torch.arange(200) % classes
    triples = draw(bank, labels, seed)
    areas = bank.object_masks.sum(dim=(1, 2, 3)).numpy()
    assert triples.valid.all()
    for i in range(200):
        y_i, y_j, y_k = labels[i].item(), triples.labels_j[i].item(), triples.labels_k[i].item()
        assert len({y_i, y_j, y_k}) == 3
        area_j, area_k = hidden_pixels(triples.visible_j)[i].item(), hidden_pixels(triples.visible_k)[i].item()
        allowed = [area for area, label in zip(areas, bank.labels.tolist(), strict=True) if label not in (y_i, y_j)]
        assert abs(area_j - area_k) == np.abs(np.array(allowed) - area_j).min()
        assert ((areas == area_k) & (bank.labels.numpy() == y_k)).any()


def test_j_is_uniform_over_the_objects_of_other_classes():
    bank = bank_of(list(range(1, 31)), [0] * 5 + [1] * 10 + [2] * 15)
    triples = draw(bank, torch.full((6000,), 1))
    drawn = np.bincount(hidden_pixels(triples.visible_j).numpy(), minlength=31)[1:]
    assert drawn[5:15].sum() == 0
    assert stats.chisquare(np.delete(drawn, range(5, 15))).pvalue > 1e-3


def test_equally_close_objects_are_equally_likely():
    bank = bank_of([20, 20, 20, 19, 21, 20], [0, 1, 2, 2, 3, 3])
    triples = draw(bank, torch.zeros(9000, dtype=torch.int64))
    from_class_1 = triples.labels_j == 1
    by_class = triples.labels_k[from_class_1].bincount(minlength=4)[2:]
    assert stats.chisquare(by_class.numpy()).pvalue > 1e-3
    assert torch.equal(hidden_pixels(triples.visible_j)[from_class_1], hidden_pixels(triples.visible_k)[from_class_1])


@pytest.mark.parametrize("labels_in_bank", [[0, 0, 1], [1, 1, 1], [0, 0, 0]])
def test_fewer_than_two_other_classes_are_said_and_nothing_is_hidden(labels_in_bank):
    triples = draw(bank_of([3, 4, 5], labels_in_bank), torch.zeros(10, dtype=torch.int64))
    assert not triples.valid.any()
    assert triples.visible_j.all()
    assert triples.visible_k.all()
    assert (triples.labels_j == -1).all()


def test_triples_do_not_depend_on_the_order_of_the_bank():
    bank = bank_of([3, 8, 5, 9, 4, 7], [0, 1, 2, 0, 1, 2])
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    shuffled = SilhouetteBank(bank.object_masks[order], bank.labels[order], bank.ids[order])
    labels = torch.arange(30) % 3
    for one, other in zip(draw(bank, labels), draw(shuffled, labels), strict=True):
        assert torch.equal(one, other)


def with_object(height, width, top, left, factor):
    """A mask (1, 1, H, W) with an L of 4 by 3 cells, each of `factor` pixels."""
    shape = torch.tensor([[1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 1, 1]], dtype=torch.bool)
    shape = shape.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    mask = torch.zeros(1, 1, height, width, dtype=torch.bool)
    mask[..., top : top + 4 * factor, left : left + 3 * factor] = shape
    return mask


def test_the_picture_is_the_same_wherever_the_object_is_and_the_place_is_told():
    first, second = with_object(60, 60, 0, 0, 8), with_object(60, 60, 20, 31, 8)
    found = object_crops(torch.cat([first, second]))
    assert torch.allclose(found[0, 0], found[1, 0], atol=1e-5)
    assert found[0, 1:, 0, 0].tolist() == pytest.approx([12 / 60 - 0.5, 16 / 60 - 0.5, 1.1 * 32 / 60])
    assert found[1, 1:, 0, 0].tolist() == pytest.approx([43 / 60 - 0.5, 36 / 60 - 0.5, 1.1 * 32 / 60])
    assert torch.equal(found[:, 1:], found[:, 1:, :1, :1].expand(-1, -1, 32, 32))


def test_objects_of_any_size_fill_the_picture_alike():
    small, large = (object_crops(with_object(120, 90, 9, 7, factor))[0, 0] for factor in (3, 20))
    assert (small - large).abs().mean() < 0.06
    assert small.mean().item() == pytest.approx(large.mean().item(), abs=0.01)


@pytest.mark.parametrize("size", [(1, 1), (17, 40), (96, 96)])
def test_masks_of_any_size_and_empty_ones_give_finite_pictures(size):
    found = object_crops(torch.stack([torch.zeros(1, *size), torch.ones(1, *size)]).bool())
    assert found.shape == (2, 4, 32, 32) and found.isfinite().all()
    assert not found[0, 0].any() and found[1, 0].max() > 0.9


def test_a_hole_of_a_measure_s_own_is_drawn_under_its_name(monkeypatch):
    monkeypatch.setattr(conditions_module, "_HOLES", dict(conditions_module._HOLES))

    @hole(lambda plan: ["upper_half"] if plan.shapes else [])
    def upper_half(drawing):
        visible = torch.ones_like(drawing.batch.object_mask)
        visible[:, :, : SIZE // 2] = False
        yield visible, drawing.holes.valid

    conditions = conditions_of(shape_batch(20, 0))
    assert not conditions.visible("upper_half")[:, :, : SIZE // 2].any()
    assert [each.name for each in conditions.all] == condition_names(PLAN)
    assert condition_names(PLAN)[-1] == "upper_half"
    assert "upper_half" not in condition_names(PLAN.without_objects())
