"""Superpixels: whole segments, nearest to the wanted fraction, segmented once."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from maskrobust.augment import fold_in, hide_in_order, random_order, sample_keys, uniform
from maskrobust.augment.families.registry import draw_hidden_fraction
from maskrobust.augment.families.segments import SegmentationMethod, SegmentCache, hide_segments, segment_image

METHODS: list[SegmentationMethod] = ["slic", "quickshift"]


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Four flat quadrants."""
    rows, columns = np.arange(height) >= height // 2, np.arange(width) >= width // 2
    quadrant = 2 * rows[:, None] + columns[None, :]
    return np.repeat((quadrant / 3).astype(np.float32)[:, :, None], channels, axis=2)


def test_segments_are_hidden_in_a_random_order_up_to_a_fraction_from_the_range() -> None:
    segments, keys = (uniform(torch.arange(30), 7, 9).square() * 12).long(), sample_keys(0, torch.arange(30))
    order, fraction = random_order(fold_in(keys, 1), segments), draw_hidden_fraction(fold_in(keys, 0), (0.2, 0.9))
    expected = hide_in_order(segments, order, fraction.unsqueeze(0))[0]
    assert torch.equal(hide_segments(keys, segments, hidden_fraction=(0.2, 0.9)), expected)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_segment_does_not_cross_a_strong_edge(method: SegmentationMethod, channels: int) -> None:
    segments = segment_image(method, picture(32, 48, channels))
    assert segments.shape == (32, 48) and segments.dtype == np.int32
    quadrants = [set(np.unique(part)) for half in np.split(segments, 2) for part in np.split(half, 2, axis=1)]
    assert len(set.union(*quadrants)) == sum(len(quadrant) for quadrant in quadrants)


def counting_cache(capacity: int) -> tuple[SegmentCache, list[SegmentationMethod]]:
    calls: list[SegmentationMethod] = []

    def segment(method: SegmentationMethod, image: np.ndarray) -> np.ndarray:
        calls.append(method)
        return (image[..., 0] * 100).astype(np.int32)

    return SegmentCache(capacity, segment), calls


def test_an_image_is_segmented_once_for_each_method_and_crops_are_not_confused() -> None:
    cache, calls = counting_cache(10**6)
    first, crop = picture(6, 8), picture(6, 8)[:, ::-1]
    for _ in range(3):
        assert np.array_equal(cache.segments("slic", 7, first), (first[..., 0] * 100).astype(np.int32))
        assert np.array_equal(cache.segments("slic", 7, crop), (crop[..., 0] * 100).astype(np.int32))
    cache.segments("quickshift", 7, first)
    cache.segments("slic", 8, first)
    cache.segments("slic", 7, first.reshape(8, 6, 3))
    assert calls == ["slic", "slic", "quickshift", "slic", "slic"] and len(cache) == 5


def test_threads_share_the_cache_and_get_what_they_asked_for() -> None:
    cache, _ = counting_cache(capacity=3 * 4 * 4 * 4)
    asked = [(sample_id, picture(4, 4) + sample_id) for sample_id in range(5)] * 40
    with ThreadPoolExecutor(8) as threads:
        found = [*threads.map(lambda each: cache.segments("slic", *each), asked)]
    for segments, (_, image) in zip(found, asked, strict=True):
        assert np.array_equal(segments, (image[..., 0] * 100).astype(np.int32))
    assert len(cache) == 3
