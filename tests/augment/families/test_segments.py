"""Holes along an order, against hiding one segment after the other."""

import pytest
import torch

from maskrobust.augment import (
    hide_in_order,
    patch_segments,
    random_order,
    sample_keys,
    uniform,
)

FRACTIONS = [0.0, 0.05, 0.1, 0.3, 0.5, 0.77, 0.9, 1.0]


def uneven_segments(count, height=7, width=9):
    """Segments of very different sizes, some numbers left out."""
    return (uniform(torch.arange(count), height, width).square() * 12).long()


def some_order(segments):
    return random_order(sample_keys(8, torch.arange(len(segments))), segments)


def holes(segments, order, fractions):
    """Hidden pixels, (F, B, H, W) bool."""
    own = torch.tensor(fractions, dtype=torch.float64)[:, None].expand(-1, len(segments))
    return ~hide_in_order(segments, order, own).squeeze(2)


def hidden_by_the_slow_way(order, segments, wanted):
    """Hide segments one after the other; of all holes on the way, the first of those nearest to `wanted`."""
    way = [torch.zeros_like(segments, dtype=torch.bool)]
    for segment in order:
        way.append(way[-1] | (segments == segment))
    return min(way, key=lambda hidden: abs(int(hidden.sum()) - wanted))


def test_segments_are_hidden_one_after_the_other_up_to_the_nearest_cut():
    segments = uneven_segments(30)
    order = some_order(segments)
    for fraction, hidden in zip(FRACTIONS, holes(segments, order, FRACTIONS), strict=True):
        for row in range(30):
            slow = hidden_by_the_slow_way(order[row].tolist(), segments[row], round(fraction * 63))
            assert torch.equal(hidden[row], slow)


def test_a_random_order_holds_every_segment_once_and_is_the_same_in_any_batch():
    segments = uneven_segments(20)
    keys = sample_keys(0, torch.arange(20))
    order = random_order(keys, segments)
    assert torch.equal(order.sort(dim=1).values, torch.arange(order.shape[1]).expand(20, -1))
    for row in range(20):
        alone = random_order(keys[row : row + 1], segments[row : row + 1])[0]
        assert alone.tolist() == [segment for segment in order[row].tolist() if segment < len(alone)]


@pytest.mark.parametrize(("height", "width", "patch_size"), [(8, 12, 4), (7, 5, 3), (1, 9, 16), (5, 4, 1)])
def test_patches_are_numbered_row_by_row(height, width, patch_size):
    segments = patch_segments(height, width, patch_size)
    across = len(range(0, width, patch_size))
    expected = [[(y // patch_size) * across + x // patch_size for x in range(width)] for y in range(height)]
    assert segments.tolist() == expected
