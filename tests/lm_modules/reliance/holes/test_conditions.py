"""What is hidden under each condition and by retention curves, swap triples, and object crops of masks."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats

from maskrobust.augment import Batch, SilhouetteBank, patch_segments, sample_keys, segment_batch, segment_sums
from maskrobust.lm_modules.reliance.hole_reader import object_crops
from maskrobust.lm_modules.reliance.holes import conditions as conditions_module
from maskrobust.lm_modules.reliance.holes.conditions import ConditionSource, condition_names, hole, retention_condition
from maskrobust.lm_modules.reliance.holes.curves import CURVE_FAMILIES, CURVE_ORDERS, curve_holes
from maskrobust.lm_modules.reliance.holes.swaps import swap_index, swap_triples
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from tests.lm_modules.reliance.shapes import SIZE, shape_bank, shape_batch

FRACTIONS = (0.0, 0.25, 0.5, 1.0)
PLAN = ReliancePlan(
    hidden_fractions=FRACTIONS,
    patch_size=8,
    transfer_families=("blobs", "silhouettes", "objects", "patches"),
    sampled_fraction=0.5,
)


def conditions_of(batch, seed=3):
    return ConditionSource(shape_bank(), PLAN, seed).draw(batch)


def tensors_of(conditions):
    by_name = [tensor for condition in conditions.all for tensor in (condition.visible, condition.applies)]
    return [*conditions.holes, *conditions.swaps, *by_name, conditions.fill_keys]


def test_patches_hide_the_fraction_asked_for_and_smaller_holes_lie_within_larger_ones():
    drawn = {each.name: each.visible for each in conditions_of(shape_batch(20, 0)).all}
    visible = [drawn[retention_condition(fraction)] for fraction in FRACTIONS]
    for fraction, mask in zip(FRACTIONS, visible, strict=True):
        assert ((~mask).double().mean(dim=(1, 2, 3)) == fraction).all()
    for smaller, larger in pairwise(visible):
        assert not (larger & ~smaller).any()


def test_curves_and_matrix_are_asked_about_a_share_of_the_images_and_the_rest_about_all():
    conditions = conditions_of(shape_batch(200, 0))
    applies = {condition.name: condition.applies for condition in conditions.all}
    assert applies["retention/0.5"].all()
    assert 70 < applies["transfer/blobs"].sum() < 130
    assert torch.equal(applies["transfer/blobs"], applies["transfer/patches"])


def test_what_is_made_from_the_object_is_not_asked_about_images_without_one():
    batch = shape_batch(50, 0)
    batch.object_mask[:10] = False
    plan = ReliancePlan(transfer_families=("objects", "blobs"), sampled_fraction=1.0)
    conditions = ConditionSource(shape_bank(), plan, seed=0).draw(batch)
    applies = {condition.name: condition.applies for condition in conditions.all}
    assert not applies["transfer/objects"][:10].any() and applies["transfer/objects"][10:].all()
    assert applies["transfer/blobs"].all()


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
    over = torch.ones(len(labels), 1, SIDE, SIDE, dtype=torch.bool)
    return swap_triples(keys, labels, over, swap_index(bank))


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
    first, second = with_object(48, 60, 0, 0, 8), with_object(48, 60, 12, 31, 8)
    found = object_crops(torch.cat([first, second]))
    assert torch.allclose(found[0, 0], found[1, 0], atol=1e-5)
    assert found[0, 1:, 0, 0].tolist() == pytest.approx([(12 - 30) / 60, (16 - 24) / 60, 1.1 * 32 / 60])
    assert found[1, 1:, 0, 0].tolist() == pytest.approx([(43 - 30) / 60, (28 - 24) / 60, 1.1 * 32 / 60])
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
    assert conditions.all[-1].name == "upper_half" and not conditions.all[-1].visible[:, :, : SIZE // 2].any()
    assert [each.name for each in conditions.all] == condition_names(PLAN)
    assert condition_names(PLAN)[-1] == "upper_half"
    assert "upper_half" not in condition_names(PLAN.without_objects())


TENTHS = tuple(step / 10 for step in range(11))
PATCH_SIZE = 5  # does not divide the image: some cells are cut off


def scenes(count, seed):
    """Shapes of another colour than their background, on a gradient with a little noise: something to segment."""
    batch = shape_batch(count, seed)
    ramp = torch.linspace(0, 1, SIZE).expand(count, 1, SIZE, SIZE)
    colours = torch.cat([ramp, ramp.transpose(2, 3), batch.object_mask.float()], dim=1)
    return batch._replace(images=0.8 * colours + 0.2 * batch.images)


def holes_of(batch, family, order, seed=3):
    keys = sample_keys(seed, batch.ids)
    return curve_holes(keys, batch, family=family, order=order, hidden_fractions=TENTHS, patch_size=PATCH_SIZE)


def segments_of(batch, family):
    if family == "patches":
        return patch_segments(SIZE, SIZE, PATCH_SIZE).expand(len(batch.ids), -1, -1)
    return segment_batch(batch, family)


def turns(holes, segments, row):
    """How many of the holes of one image hide each of its segments, which must be hidden as a whole."""
    found = {}
    for segment in segments[row].unique().tolist():
        hidden = [~visible[row, 0][segments[row] == segment] for visible in holes.visible]
        assert all(part.all() or not part.any() for part in hidden)
        found[segment] = sum(bool(part.all()) for part in hidden)
    return found


def saliency(batch, segments, row):
    return {
        segment: float(np.mean(batch.object_mask[row, 0].numpy()[segments[row].numpy() == segment]))
        for segment in segments[row].unique().tolist()
    }


@pytest.mark.parametrize("family", CURVE_FAMILIES)
@pytest.mark.parametrize("order", CURVE_ORDERS)
def test_holes_are_nested_exact_at_both_ends_and_else_to_half_a_segment(family, order):
    batch = scenes(12, 0)
    holes = holes_of(batch, family, order)
    assert holes.valid.all() and len(holes.visible) == len(TENTHS)
    for smaller, larger in pairwise(holes.visible):
        assert not (larger & ~smaller).any()
    assert holes.visible[0].all() and not holes.visible[-1].any()
    segments = segments_of(batch, family).long()
    largest = segment_sums(segments, torch.ones_like(segments), int(segments.max()) + 1).amax(dim=1)
    for fraction, visible in zip(TENTHS, holes.visible, strict=True):
        assert visible.shape == (12, 1, SIZE, SIZE) and visible.dtype == torch.bool
        hidden = (~visible).sum(dim=(1, 2, 3))
        assert ((hidden - fraction * SIZE**2).abs() <= (largest + 1) / 2).all()


@pytest.mark.parametrize("family", CURVE_FAMILIES)
@pytest.mark.parametrize(("order", "sign"), [("most_salient", 1), ("least_salient", -1)])
def test_no_segment_is_hidden_before_one_that_comes_first_by_saliency(family, order, sign):
    batch = scenes(12, 1)
    holes, segments = holes_of(batch, family, order), segments_of(batch, family)
    for row in range(12):
        turn, salient = turns(holes, segments, row), saliency(batch, segments, row)
        ranked = sorted(turn, key=lambda segment: -sign * salient[segment])
        for before, after in pairwise(ranked):
            assert turn[before] >= turn[after] or salient[before] == salient[after]


@pytest.mark.parametrize("order", CURVE_ORDERS)
def test_equally_salient_segments_follow_in_an_order_of_the_key(order):
    batch = scenes(40, 3)
    whole = batch._replace(object_mask=torch.ones_like(batch.object_mask))
    first, again, other = (holes_of(whole, "patches", order, seed).visible[5] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not (first == other).flatten(1).all(dim=1).any()
    assert torch.equal(first, holes_of(whole, "patches", "random", 1).visible[5])
    times = (~first[:, 0]).double().mean(dim=0)
    assert times.min() > 0.1 and times.max() < 0.9


@pytest.mark.parametrize("family", CURVE_FAMILIES)
def test_without_an_object_only_the_random_order_is_valid(family):
    batch = scenes(6, 4)
    batch.object_mask[[1, 4]] = False
    for order in ("most_salient", "least_salient"):
        holes = holes_of(batch, family, order)
        assert holes.valid.tolist() == [True, False, True, True, False, True]
        assert all(visible[~holes.valid].all() for visible in holes.visible)
    assert holes_of(batch, family, "random").valid.all()
