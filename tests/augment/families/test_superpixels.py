"""Superpixels: whole segments, nearest to the wanted fraction, segmented once."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from maskrobust.augment import Batch, build_family, fold_in, hide_in_order, random_order, sample_keys, uniform
from maskrobust.augment.families import SegmentationMethod, draw_hidden_fraction, hide_segments
from maskrobust.augment.families.superpixels import SegmentCache, segment_batch, segment_image, slic

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


def test_every_segment_comes_first_equally_often() -> None:
    segments = torch.arange(4).repeat_interleave(3).reshape(1, 2, 6).expand(4000, -1, -1)
    hidden = ~hide_segments(sample_keys(1, torch.arange(4000)), segments, hidden_fraction=(0.25, 0.25))
    assert (hidden.sum(dim=(1, 2, 3)) == 3).all()
    counts = hidden.flatten(1)[:, ::3].sum(dim=0)
    assert ((counts - 1000).abs() < 4 * (4000 * 0.25 * 0.75) ** 0.5).all()


def test_segments_of_another_image_do_not_disturb_the_order() -> None:
    few, many = torch.zeros(1, 6, 6, dtype=torch.int64), torch.arange(36).reshape(1, 6, 6)
    few[:, 3:] = 1
    keys = sample_keys(2, torch.arange(2))
    together = hide_segments(keys, torch.cat([few, many]), hidden_fraction=(0.5, 0.5))
    assert torch.equal(together[:1], hide_segments(keys[:1], few, hidden_fraction=(0.5, 0.5)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_segment_does_not_cross_a_strong_edge(method: SegmentationMethod, channels: int) -> None:
    segments = segment_image(method, picture(32, 48, channels))
    assert segments.shape == (32, 48) and segments.dtype == np.int32
    quadrants = [set(np.unique(part)) for half in np.split(segments, 2) for part in np.split(half, 2, axis=1)]
    assert len(set.union(*quadrants)) == sum(len(quadrant) for quadrant in quadrants)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (13, 7), (40, 25)])
def test_holes_are_unions_of_segments(method: SegmentationMethod, size: tuple[int, int]) -> None:
    images = uniform(torch.arange(3), 3, *size)
    empty = torch.zeros(3, 1, *size, dtype=torch.bool)
    batch = Batch(torch.arange(3), images, empty, torch.zeros(3))
    visible = build_family(method, hidden_fraction=(0.5, 0.5))(torch.arange(3), batch)
    for image, seen in zip(images, visible, strict=True):
        segments = segment_image(method, np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
        for segment in np.unique(segments):
            assert len(seen[0].numpy()[segments == segment].tolist()) == (segments == segment).sum()
            assert len(set(seen[0].numpy()[segments == segment].tolist())) == 1


def test_bytes_are_segmented_as_the_numbers_they_stand_for() -> None:
    bytes_ = (uniform(torch.arange(2), 3, 16, 16) * 255).byte()
    ids, empty = torch.arange(2), torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    drawn = [
        slic(ids, Batch(ids, images, empty, ids), hidden_fraction=(0.5, 0.5))
        for images in (bytes_, bytes_.float() / 255)
    ]
    assert torch.equal(*drawn)


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


def test_the_cache_keeps_the_images_used_last() -> None:
    cache, calls = counting_cache(capacity=2 * 4 * 4 * 4)
    for sample_id in (1, 2, 1, 3, 1, 2):
        cache.segments("slic", sample_id, picture(4, 4))
    assert len(calls) == 4 and len(cache) == 2


def test_threads_share_the_cache_and_get_what_they_asked_for() -> None:
    cache, _ = counting_cache(capacity=3 * 4 * 4 * 4)
    asked = [(sample_id, picture(4, 4) + sample_id) for sample_id in range(5)] * 40
    with ThreadPoolExecutor(8) as threads:
        found = [*threads.map(lambda each: cache.segments("slic", *each), asked)]
    for segments, (_, image) in zip(found, asked, strict=True):
        assert np.array_equal(segments, (image[..., 0] * 100).astype(np.int32))
    assert len(cache) == 3


def test_the_number_of_threads_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images = uniform(torch.arange(5), 3, 24, 24)
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        ids = torch.arange(5) + 1000 * threads  # not segmented before
        batch = Batch(ids, images, torch.zeros(5, 1, 24, 24, dtype=torch.bool), ids)
        found.append(segment_batch(batch, "quickshift"))
    assert torch.equal(*found)
    for image, segments in zip(images, found[0].numpy(), strict=True):
        assert np.array_equal(segments, segment_image("quickshift", image.permute(1, 2, 0).numpy()))


def test_a_batch_of_no_images_has_no_segments() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    batch = Batch(none, torch.zeros(0, 3, 6, 7), torch.zeros(0, 1, 6, 7, dtype=torch.bool), none)
    assert segment_batch(batch, "slic").shape == (0, 6, 7)


def test_images_of_two_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="1 or 3 channels, got 2"):
        segment_image("slic", np.zeros((4, 4, 2), dtype=np.float32))
