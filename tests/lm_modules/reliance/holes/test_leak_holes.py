"""Holes with a margin, another ring and another outline: what they hide, and what known networks are found to read."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import ndimage

from maskrobust.augment import fold_in, sample_keys, uniform
from maskrobust.augment.families.holes import enclosing_circles
from maskrobust.lm_modules.reliance.estimates.estimation import Statistic, estimate
from maskrobust.lm_modules.reliance.holes.conditions import (
    ConditionSource,
    cover_holes,
    dilate,
    margin_condition,
    with_other_ring,
)
from maskrobust.lm_modules.reliance.measures.leak_controls import (
    cover_leak,
    leak_by_border,
    leak_by_coverage,
    margin_leak,
    other_ring_leak,
)
from maskrobust.lm_modules.reliance.measures.shape import silhouette_leak
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.lm_modules.reliance.suite import RelianceSuite
from tests.lm_modules.reliance.shapes import (
    NUM_CLASSES,
    SIZE,
    as_logits,
    draw_shape,
    largest_piece,
    shape_bank,
    shape_batch,
)
from tests.lm_modules.reliance.tables import make_outcomes

PLAN = ReliancePlan(hidden_fractions=(), margins=(0, 2), leak_controls=True)
BANK = shape_bank(80)
BATCH = shape_batch(120, seed=3, first_id=1000)


def guess(keys):
    return (uniform(fold_in(keys, 17)) * NUM_CLASSES).long()


def is_disc(hidden):
    """Whether the largest piece of each hole is a filled disc, as enclosing circles are, (B,) bool."""
    pieces = torch.from_numpy(np.stack([largest_piece(hole) for hole in hidden[:, 0].numpy()])).unsqueeze(1)
    return (pieces == enclosing_circles(pieces)).flatten(1).all(dim=1)


def outline_reader(images, visible, keys):
    """Names the shape of a hole, grown or not, and guesses where it is a disc."""
    return as_logits(torch.where(is_disc(~visible), guess(keys), read_grown(~visible)))


def read_grown(hidden):
    found = torch.zeros(len(hidden), dtype=torch.int64)
    for place, hole in enumerate(hidden[:, 0].numpy()):
        piece = largest_piece(hole)
        if piece.any():
            found[place] = nearest(piece)
    return found


def nearest(piece):
    """Class of the drawing that, as it is or grown by two pixels, differs least from a hole."""
    rows, columns = np.flatnonzero(piece.any(axis=1)), np.flatnonzero(piece.any(axis=0))
    row, column = int(rows[0] + rows[-1]) // 2, int(columns[0] + columns[-1]) // 2
    radius = int(max(np.ptp(rows), np.ptp(columns))) // 2
    differences = {
        (label, margin): np.sum(grown(draw_shape(label, row, column, radius - margin), margin) != piece)
        for label in range(NUM_CLASSES)
        for margin in (0, 2)
        if radius > margin
    }
    return min(differences, key=lambda each: differences[each])[0]


def grown(shape, margin):
    return ndimage.distance_transform_edt(~shape) <= margin if shape.any() else shape


def blind(images, visible, keys):
    return as_logits(guess(keys))


def ring_reader(images, visible, keys):
    """Reads a grey value that stands in the ring of `coloured` alone, and guesses where none is to be seen."""
    greys = (torch.arange(NUM_CLASSES) + 1.0) / 10
    seen = ((images[:, :1] - greys[:, None, None]).abs() < 1e-6) & visible
    counts = seen.sum(dim=(2, 3))
    return as_logits(torch.where(counts.sum(dim=1) > 0, counts.argmax(dim=1), guess(keys)))


def disc_hater(images, visible, keys):
    """Right unless the hole is a disc, whatever its outline: what a negative control must notice."""
    labels = BATCH.labels[(keys[:, None] == fold_in(sample_keys(0, BATCH.ids), 0)).int().argmax(dim=1)]
    return as_logits(torch.where(is_disc(~visible), (labels + 1) % NUM_CLASSES, labels))


def coloured():
    ring = enclosing_circles(BATCH.object_mask) & ~BATCH.object_mask
    grey = ((BATCH.labels + 1.0) / 10)[:, None, None, None].expand_as(BATCH.images)
    return BATCH._replace(images=torch.where(ring, grey, BATCH.images * 0.4 + 0.5))


@pytest.fixture(scope="module")
def outcomes():
    readers = {"outline": outline_reader, "blind": blind, "ring": ring_reader, "disc_hater": disc_hater}
    return RelianceSuite(BANK, NUM_CLASSES, PLAN).ask(readers, coloured())


def interval(measure, outcomes):
    found = estimate(measure, [outcomes], replicates=500, confidence=0.999).interval
    assert found is not None
    return found


def holds(measure, outcomes, truth):
    found = interval(measure, outcomes)
    return found.low <= truth <= found.high


EVERY_LEAK: list[Callable[[], Statistic]] = [
    silhouette_leak, lambda: margin_leak(2.0), other_ring_leak, lambda: leak_by_coverage("medium"),
    lambda: leak_by_border("clear"),
]  # fmt: skip


@pytest.mark.parametrize("leak", EVERY_LEAK)
def test_a_reader_of_outlines_is_found_by_every_leak_and_a_network_without_sight_by_none(leak, outcomes):
    assert holds(leak(), outcomes["outline"], 1 - 1 / NUM_CLASSES)
    assert interval(leak(), outcomes["outline"]).low > 0.3
    assert holds(leak(), outcomes["blind"], 0.0)


def test_content_of_the_ring_makes_a_leak_but_none_with_another_ring(outcomes):
    assert interval(silhouette_leak(), outcomes["ring"]).low > 0.5
    assert holds(other_ring_leak(), outcomes["ring"], 0.0)


def test_the_control_is_zero_for_a_reader_and_not_where_something_else_tells_the_holes_apart(outcomes):
    assert holds(cover_leak(), outcomes["outline"], 0.0)
    assert holds(cover_leak(), outcomes["blind"], 0.0)
    assert interval(silhouette_leak(), outcomes["disc_hater"]).value == 1.0
    assert interval(cover_leak(), outcomes["disc_hater"]).low > 0.2


@pytest.mark.parametrize("margin", [0.0, 1.0, 2.5, 7.0])
def test_a_grown_object_holds_what_is_near_enough(margin):
    masks = torch.cat([BATCH.object_mask[:5], torch.zeros(1, 1, SIZE, SIZE, dtype=torch.bool)])
    for mask, found in zip(masks[:, 0].numpy(), dilate(masks, margin)[:, 0].numpy(), strict=True):
        expected = ndimage.distance_transform_edt(~mask) <= margin if mask.any() else mask
        assert np.array_equal(found, expected)


def test_holes_with_a_margin_hide_the_grown_object_and_as_many_pixels_each():
    conditions = ConditionSource(BANK, PLAN, seed=0).draw(BATCH)
    silhouette, circle = (~conditions.visible(margin_condition(hole, 2.0)) for hole in ("silhouette", "circle"))
    valid = next(each.applies for each in conditions.all if each.name == margin_condition("circle", 2.0))
    assert valid.any()
    near = dilate(BATCH.object_mask, 2.0)
    assert not (near & ~silhouette)[valid].any() and not (near & ~circle)[valid].any()
    assert torch.equal(silhouette.sum(dim=(1, 2, 3)), circle.sum(dim=(1, 2, 3)))
    assert torch.equal(circle[valid], enclosing_circles(near)[valid])


def test_the_other_ring_shows_nothing_of_the_circle_and_leaves_the_rest():
    circles = enclosing_circles(BATCH.object_mask)
    ring = circles & ~BATCH.object_mask
    changed = with_other_ring(BATCH.images, BATCH.object_mask)
    assert torch.equal(changed.where(~ring, 0.0), BATCH.images.where(~ring, 0.0))
    other = torch.where(circles, torch.rand_like(BATCH.images), BATCH.images)
    assert torch.equal(with_other_ring(other, BATCH.object_mask).where(ring, 0.0), changed.where(ring, 0.0))
    for image, inside, shown, where in zip(BATCH.images, circles, changed, ring, strict=True):
        outside = {round(float(value), 6) for value in image[0][~inside[0]]}
        assert {round(float(value), 6) for value in shown[0][where[0]]} <= outside


def test_a_cover_hides_the_whole_object_as_much_as_the_circle_beside_it():
    keys = sample_keys(0, BATCH.ids)
    holes = cover_holes(keys, BATCH.object_mask, BATCH.ids, bank=BANK)
    cover, circle = ~holes.silhouette_visible, ~holes.circle_visible
    assert holes.valid.float().mean() > 0.5
    assert not (BATCH.object_mask & ~cover)[holes.valid].any()
    assert not (enclosing_circles(BATCH.object_mask) & ~circle)[holes.valid].any()
    assert torch.equal(cover.sum(dim=(1, 2, 3)), circle.sum(dim=(1, 2, 3)))
    assert not cover[~holes.valid].any()
    alone = cover_holes(keys[7:8], BATCH.object_mask[7:8], BATCH.ids[7:8], bank=BANK)
    assert torch.equal(alone.silhouette_visible[0], holes.silhouette_visible[7])


def test_leaks_over_parts_are_those_of_their_images():
    made = make_outcomes(90, 0, skill=0.5, invalid=(3, 4))
    valid = made.object_valid
    leaks = (made.predictions_under("silhouette") == made.labels) * 1.0 - (
        made.predictions_under("circle") == made.labels
    )
    low, high = np.quantile(made.object_fraction[valid], [1 / 3, 2 / 3])
    parts = {
        "small": made.object_fraction <= low,
        "medium": (made.object_fraction > low) & (made.object_fraction <= high),
        "large": made.object_fraction > high,
    }
    for name, part in parts.items():
        found = estimate(leak_by_coverage(name), [made], replicates=50)  # type: ignore[arg-type]
        assert found.value == pytest.approx(leaks[part & valid].mean())
        assert (found.images, found.left_out) == ((part & valid).sum(), 90 - (part & valid).sum())
    for name, at_border in (("touched", True), ("clear", False)):
        found = estimate(leak_by_border(name), [made], replicates=50)  # type: ignore[arg-type]
        assert found.value == pytest.approx(leaks[valid & (made.at_border == at_border)].mean())
