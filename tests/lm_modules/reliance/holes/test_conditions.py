"""What is hidden under each condition, and that it depends on (seed, sample id) and the bank alone."""

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch

from maskrobust.augment import Batch, object_holes, sample_keys
from maskrobust.lm_modules.reliance.holes import conditions as conditions_module
from maskrobust.lm_modules.reliance.holes.conditions import (
    Conditions,
    ConditionSource,
    Drawing,
    condition_names,
    hole,
    retention_condition,
)
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from tests.lm_modules.reliance.shapes import SIZE, shape_bank, shape_batch

FRACTIONS = (0.0, 0.25, 0.5, 1.0)
PLAN = ReliancePlan(
    hidden_fractions=FRACTIONS,
    patch_size=8,
    transfer_families=("blobs", "silhouettes", "objects", "patches"),
    sampled_share=0.5,
)


def conditions_of(batch: Batch, seed: int = 3) -> Conditions:
    return ConditionSource(shape_bank(), PLAN, seed).draw(batch)


def tensors_of(conditions: Conditions) -> list[torch.Tensor]:
    by_name = [tensor for condition in conditions.all for tensor in (condition.visible, condition.applies)]
    return [*conditions.holes, *conditions.swaps, *by_name, conditions.redrawn_images, conditions.fill_keys]


def test_both_holes_remove_the_object_and_hide_equally_many_pixels() -> None:
    batch = shape_batch(100, 0)
    holes = object_holes(sample_keys(0, batch.ids), batch.object_mask)
    assert holes.valid.all()
    assert not (holes.silhouette_visible & batch.object_mask).any()
    assert not (holes.circle_visible & batch.object_mask).any()
    assert torch.equal((~holes.silhouette_visible).sum((1, 2, 3)), (~holes.circle_visible).sum((1, 2, 3)))


def test_the_silhouette_keeps_the_ring_around_the_object_visible() -> None:
    batch = shape_batch(100, 0)
    holes = object_holes(sample_keys(0, batch.ids), batch.object_mask)
    grown = torch.nn.functional.max_pool2d(batch.object_mask.float(), 3, 1, 1).bool()
    assert holes.silhouette_visible[grown & ~batch.object_mask].all()


def test_without_an_object_or_room_nothing_is_hidden_and_the_image_is_invalid() -> None:
    masks = torch.zeros(3, 1, 10, 10, dtype=torch.bool)
    masks[1, 0, ::9, ::9] = True
    masks[2, 0, 4, 4] = True
    holes = object_holes(torch.arange(3), masks)
    assert holes.valid.tolist() == [False, False, True]
    assert holes.silhouette_visible[:2].all()
    assert holes.circle_visible[:2].all()


def test_patches_hide_the_fraction_asked_for_and_smaller_holes_lie_within_larger_ones() -> None:
    conditions = conditions_of(shape_batch(20, 0))
    visible = [conditions.visible(retention_condition(fraction)) for fraction in FRACTIONS]
    for fraction, mask in zip(FRACTIONS, visible, strict=True):
        assert ((~mask).double().mean(dim=(1, 2, 3)) == fraction).all()
    for smaller, larger in pairwise(visible):
        assert not (larger & ~smaller).any()


def test_redrawn_images_differ_in_the_silhouette_hole_alone() -> None:
    batch = shape_batch(20, 0)
    conditions = conditions_of(batch)
    same = (conditions.redrawn_images == batch.images).all(dim=1, keepdim=True)
    assert torch.equal(same, conditions.holes.silhouette_visible)


@pytest.mark.parametrize("batch_size", [1, 7, 24])
def test_conditions_do_not_depend_on_batch_size_or_order(batch_size: int) -> None:
    batch = shape_batch(24, 0)
    expected = tensors_of(conditions_of(batch))
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    parts = [tensors_of(conditions_of(batch.select(chosen))) for chosen in order.split(batch_size)]
    for position, tensor in enumerate(expected):
        drawn = torch.cat([part[position] for part in parts])
        assert torch.equal(drawn.nan_to_num(-1), tensor[order].nan_to_num(-1))


def test_another_seed_draws_other_holes() -> None:
    batch = shape_batch(64, 0)
    first, second = conditions_of(batch, 1), conditions_of(batch, 2)
    unseeded = [first.visible(name) for name in ("circle", "whole", "broken", "transfer/objects")]
    for one, other in zip(tensors_of(first), tensors_of(second), strict=True):
        if one.dtype == torch.bool and one.ndim == 4 and 0 < (~one).sum() < one.numel():
            same_hole = (one == other).flatten(1).all(dim=1).double().mean()
            assert same_hole < 0.5 or any(torch.equal(one, fixed) for fixed in unseeded)


def test_curves_and_matrix_are_asked_about_a_share_of_the_images_and_the_rest_about_all() -> None:
    conditions = conditions_of(shape_batch(200, 0))
    applies = {condition.name: condition.applies for condition in conditions.all}
    assert applies["retention/0.5"].all()
    assert 70 < applies["transfer/blobs"].sum() < 130
    assert torch.equal(applies["transfer/blobs"], applies["transfer/patches"])


def test_what_is_made_from_the_object_is_not_asked_about_images_without_one() -> None:
    batch = shape_batch(50, 0)
    batch.object_mask[:10] = False
    plan = ReliancePlan(transfer_families=("objects", "blobs"), sampled_share=1.0)
    conditions = ConditionSource(shape_bank(), plan, seed=0).draw(batch)
    applies = {condition.name: condition.applies for condition in conditions.all}
    assert not applies["transfer/objects"][:10].any() and applies["transfer/objects"][10:].all()
    assert applies["transfer/blobs"].all()


def test_a_condition_outside_the_plan_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one of silhouette, circle, .*, got 'retention/0\.3'; add it"):
        conditions_of(shape_batch(4, 0)).visible(retention_condition(0.3))


def test_a_bank_of_another_size_is_refused() -> None:
    batch = shape_batch(4, 0)
    wide = Batch(batch.ids, batch.images[..., :16], batch.object_mask[..., :16], batch.labels)
    with pytest.raises(ValueError, match=rf"\({SIZE}, 16\), got \({SIZE}, {SIZE}\)"):
        conditions_of(wide)


def test_a_hole_of_a_measure_s_own_is_drawn_under_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions_module, "_HOLES", dict(conditions_module._HOLES))

    @hole(lambda plan: ["upper_half"] if plan.shapes else [])
    def upper_half(drawing: Drawing) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        visible = torch.ones_like(drawing.batch.object_mask)
        visible[:, :, : SIZE // 2] = False
        yield visible, drawing.holes.valid

    conditions = conditions_of(shape_batch(20, 0))
    assert not conditions.visible("upper_half")[:, :, : SIZE // 2].any()
    assert [each.name for each in conditions.all] == condition_names(PLAN)
    assert condition_names(PLAN)[-1] == "upper_half"
    assert "upper_half" not in condition_names(PLAN.without_objects())
