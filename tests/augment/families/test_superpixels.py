"""Hidden patches and superpixels: exact to a segment, drawn equally often, in a random order."""

from math import ceil
from typing import get_args

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from maskrobust.augment import (
    Batch,
    hide_in_order,
    patch_segments,
    patches,
    random_order,
    sample_keys,
    segment_batch,
    uniform,
)
from maskrobust.augment.families import superpixels
from maskrobust.augment.families.superpixels import SegmentationMethod, segment_image


def hidden_cells(visible, patch_size):
    """(B, rows, columns) bool; every cell must be hidden or visible as a whole."""
    height, width = visible.shape[2:]
    cells = torch.zeros(len(visible), ceil(height / patch_size), ceil(width / patch_size), dtype=torch.bool)
    for row in range(cells.shape[1]):
        for column in range(cells.shape[2]):
            top, left = row * patch_size, column * patch_size
            cell = visible[:, 0, top : top + patch_size, left : left + patch_size].flatten(1)
            assert torch.equal(cell.any(dim=1), cell.all(dim=1))
            cells[:, row, column] = ~cell.any(dim=1)
    return cells


@pytest.mark.parametrize(("rows", "columns", "hidden"), [(5, 7, 3), (5, 7, 20), (1, 9, 4), (6, 6, 35)])
def test_every_cell_is_hidden_equally_often(rows, columns, hidden):
    samples, cells = 4000, rows * columns
    fraction = hidden / cells
    keys = sample_keys(2, torch.arange(samples))
    visible = patches(keys, rows * 3 - 1, columns * 3 - 2, hidden_fraction=(fraction, fraction), patch_size=3)
    counts = hidden_cells(visible, 3).sum(dim=0).double()
    # The cells of one mask are drawn without replacement, which shrinks the statistic by cells / (cells - 1).
    statistic = ((counts - samples * fraction) ** 2).sum() / (samples * fraction * (1 - fraction)) * (cells - 1) / cells
    assert 1e-3 < stats.chi2(cells - 1).sf(float(statistic)) < 1 - 1e-3


CUTS = [0.0, 0.05, 0.1, 0.3, 0.5, 0.77, 0.9, 1.0]


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
    for fraction, hidden in zip(CUTS, holes(segments, order, CUTS), strict=True):
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


METHODS = ["slic", "quickshift"]


def picture(height, width, channels=3):
    """Four flat quadrants."""
    rows, columns = np.arange(height) >= height // 2, np.arange(width) >= width // 2
    quadrant = 2 * rows[:, None] + columns[None, :]
    return np.repeat((quadrant / 3).astype(np.float32)[:, :, None], channels, axis=2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_segment_does_not_cross_a_strong_edge(method, channels):
    segments = segment_image(method, picture(32, 48, channels))
    assert segments.shape == (32, 48) and segments.dtype == np.int32
    quadrants = [set(np.unique(part)) for half in np.split(segments, 2) for part in np.split(half, 2, axis=1)]
    assert len(set.union(*quadrants)) == sum(len(quadrant) for quadrant in quadrants)


def test_the_papers_superpixels_are_smaller_by_slic_and_larger_by_quickshift():
    noise = ndimage.gaussian_filter(np.random.default_rng(0).random((64, 64, 3), dtype=np.float32), (2, 2, 0))
    smooth = (noise - noise.min()) / np.ptp(noise)
    count = {method: segment_image(method, smooth).max() + 1 for method in get_args(SegmentationMethod)}
    assert count["slic"] < 0.6 * count["paper_slic"] and count["paper_quickshift"] < 0.5 * count["quickshift"]


@pytest.fixture
def calls(monkeypatch):
    """The methods of the segmentations that were computed; a segment is a grey value."""
    calls = []

    def segment(method, image):
        calls.append(method)
        return (image[..., 0] * 100).astype(np.int32)

    monkeypatch.setattr(superpixels, "segment_image", segment)
    monkeypatch.setattr(superpixels, "_KEPT", {})
    return calls


def segmented(method, *samples):
    """Pictures (H, W, C) by sample id, and what is said of them."""
    ids, pictures = zip(*samples, strict=True)
    images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    batch = Batch(torch.tensor(ids), images, torch.zeros_like(images[:, :1]).bool(), torch.zeros(len(ids)).long())
    assert np.array_equal(segment_batch(batch, method).numpy(), (np.stack(pictures)[..., 0] * 100).astype(np.int32))


def test_an_image_is_segmented_once_for_each_method_and_crops_are_not_confused(calls):
    first, crop = picture(6, 8), picture(6, 8)[:, ::-1]
    for _ in range(3):
        segmented("slic", (7, first), (7, crop))
    segmented("quickshift", (7, first))
    segmented("slic", (8, first))
    segmented("slic", (7, first.reshape(8, 6, 3)))
    assert calls == ["slic", "slic", "quickshift", "slic", "slic"]


def test_the_segmentations_used_last_are_kept(calls, monkeypatch):
    monkeypatch.setattr(superpixels, "_KEPT_BYTES", 3 * 4 * 4 * 4)
    pictures = [(sample_id, picture(4, 4) + sample_id) for sample_id in range(5)]
    segmented("slic", *pictures)
    segmented("slic", *pictures[2:])
    assert len(calls) == 5
    for each, asked in ((2, 5), (0, 6), (2, 6), (3, 7)):  # what was used last stays
        segmented("slic", pictures[each])
        assert len(calls) == asked
