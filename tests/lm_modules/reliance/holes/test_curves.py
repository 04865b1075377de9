"""Holes of the retention curves, against hiding segments one after the other."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from maskrobust.augment import Batch, patch_segments, sample_keys, segment_batch, segment_sums
from maskrobust.lm_modules.reliance.holes.curves import (
    CURVE_FAMILIES,
    CURVE_ORDERS,
    curve_holes,
)
from tests.lm_modules.reliance.shapes import SIZE, shape_batch

FRACTIONS = tuple(step / 10 for step in range(11))
PATCH_SIZE = 5  # does not divide the image: some cells are cut off


def scenes(count, seed):
    """Shapes of another colour than their background, on a gradient with a little noise: something to segment."""
    batch = shape_batch(count, seed)
    ramp = torch.linspace(0, 1, SIZE).expand(count, 1, SIZE, SIZE)
    colours = torch.cat([ramp, ramp.transpose(2, 3), batch.object_mask.float()], dim=1)
    return batch._replace(images=0.8 * colours + 0.2 * batch.images)


def holes_of(batch, family, order, seed=3):
    keys = sample_keys(seed, batch.ids)
    return curve_holes(keys, batch, family=family, order=order, hidden_fractions=FRACTIONS, patch_size=PATCH_SIZE)


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
    assert holes.valid.all() and len(holes.visible) == len(FRACTIONS)
    for smaller, larger in pairwise(holes.visible):
        assert not (larger & ~smaller).any()
    assert holes.visible[0].all() and not holes.visible[-1].any()
    segments = segments_of(batch, family).long()
    largest = segment_sums(segments, torch.ones_like(segments), int(segments.max()) + 1).amax(dim=1)
    for fraction, visible in zip(FRACTIONS, holes.visible, strict=True):
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


def test_saliency_is_a_share_whatever_the_size_of_a_segment():
    object_mask = torch.zeros(1, 1, 6, 10, dtype=torch.bool)
    object_mask[..., :4, 8:] = True  # all of a cell of 8 pixels that the border cuts off
    object_mask[..., :3, :4] = True  # 12 of 16 pixels
    batch = Batch(torch.arange(1), torch.rand(1, 3, 6, 10), object_mask, torch.zeros(1, dtype=torch.int64))
    keys = torch.arange(1)
    holes = curve_holes(
        keys, batch, family="patches", order="most_salient", hidden_fractions=(8 / 60, 24 / 60), patch_size=4
    )
    first, second = torch.zeros(6, 10, dtype=torch.bool), torch.zeros(6, 10, dtype=torch.bool)
    first[:4, 8:] = True
    second[:4, 8:] = second[:4, :4] = True
    assert torch.equal(~holes.visible[0][0, 0], first)
    assert torch.equal(~holes.visible[1][0, 0], second)


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


@pytest.mark.parametrize("family", CURVE_FAMILIES)
@pytest.mark.parametrize("order", CURVE_ORDERS)
def test_holes_do_not_depend_on_batch_size_or_order(family, order):
    batch = scenes(10, 5)
    together = torch.stack(holes_of(batch, family, order).visible)
    shuffled = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    for rows in shuffled.split(3):
        part = holes_of(batch.select(rows), family, order)
        assert torch.equal(torch.stack(part.visible), together[:, rows])
