"""Measures of pixels against slow loops, SciPy's distances and torchmetrics."""

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassJaccardIndex

from maskrobust.augment import sample_keys
from maskrobust.augment.families.irregular import blobs
from maskrobust.lm_modules.reliance.estimates.estimation import estimate, estimate_difference
from maskrobust.lm_modules.reliance.measures.pixels import changed_by_paint, pixel_accuracy, pixel_iou
from maskrobust.lm_modules.reliance.pixels import BANDS, PixelCounts, bands_of, counts_by_band, counts_of_changed

CLASSES, SIDE, N = 5, 24, 12


def made():
    """Predictions, labels (-1: none) and holes of N images, of which the last has no hole."""
    draw = torch.Generator().manual_seed(0)
    visible = blobs(sample_keys(3, torch.arange(N)), SIDE, SIDE + 6, hidden_fraction=(0.02, 0.2))
    visible[-1] = True
    labels = torch.randint(
        -1, CLASSES - 2, visible[:, 0].shape, generator=draw
    )  # class 3 is predicted alone, and class 4 is nowhere
    noise = torch.randint(0, CLASSES - 1, labels.shape, generator=draw)
    predicted = torch.where(torch.rand(labels.shape, generator=draw) < 0.5, labels.clamp(min=0), noise)
    return predicted, labels.where(visible[:, 0], -1), visible


def slow_bands(visible):
    """The band of each pixel, by the distances to all hidden ones."""
    found = np.full(visible[:, 0].shape, -1)
    for image, row, column in np.argwhere(visible[:, 0].numpy()):
        hidden = np.argwhere(~visible[image, 0].numpy())
        distance = min((np.hypot(*(hidden - [row, column]).T)), default=np.inf)
        rounded = np.ceil(distance - 1e-9)
        found[image, row, column] = next((n for n, last in enumerate((2, 5, 10)) if rounded <= last), 3)
    return torch.from_numpy(found)


def test_bands_are_those_of_the_distances_to_all_hidden_pixels():
    visible = made()[2]
    found = bands_of(visible)
    assert torch.equal(found, slow_bands(visible)) and found.unique().tolist() == [-1, 0, 1, 2, 3]
    assert (found[-1] == len(BANDS) - 1).all() and bands_of(torch.zeros_like(visible)).unique().tolist() == [-1]


def test_iou_and_accuracy_of_each_band_are_those_of_torchmetrics_over_its_pixels():
    predicted, targets, visible = made()
    bands = slow_bands(visible)
    counts = counts_by_band(predicted, targets, bands, CLASSES).numpy()
    for place, of_band in enumerate([*(bands == band for band in range(4)), bands >= 0]):
        some = counts.sum(axis=1) if place == 4 else counts[:, place]
        run = PixelCounts(np.arange(N), np.arange(N), some.reshape(N, -1))
        wanted = targets.where(of_band, -1)
        of_classes = MulticlassJaccardIndex(CLASSES, average="none", ignore_index=-1)(predicted, wanted)
        occurs = [n for n in range(CLASSES) if (wanted == n).any() or (predicted[wanted >= 0] == n).any()]
        np.testing.assert_allclose(estimate(pixel_iou(), [run]).value, of_classes[occurs].mean(), rtol=1e-6)
        right = (predicted == wanted)[wanted >= 0].double().mean()
        np.testing.assert_allclose(estimate(pixel_accuracy(), [run]).value, right, rtol=1e-12)


def test_pixels_that_change_with_the_paint_are_counted_one_by_one():
    visible = made()[2]
    bands = slow_bands(visible)
    predicted = torch.randint(0, 2, (3, *bands.shape), generator=torch.Generator().manual_seed(1))
    expected = np.zeros((N, 4, 2), dtype=int)
    for image, row, column in np.argwhere(visible[:, 0].numpy()):
        several = len({*predicted[:, image, row, column].tolist()}) > 1
        expected[image, bands[image, row, column]] += [several, 1]
    found = counts_of_changed(predicted, bands).numpy()
    assert np.array_equal(found, expected)
    run = PixelCounts(np.arange(N), np.arange(N), expected.sum(axis=1))
    total = expected.sum(axis=(0, 1))
    whole = estimate(changed_by_paint(), [run])
    assert (
        whole.value == pytest.approx(total[0] / total[1]) and whole.low < whole.value < whole.high and whole.images == N
    )


def test_intervals_are_over_images_and_differences_are_paired():
    rng = np.random.default_rng(0)
    labelled = rng.integers(50, 200, 400)
    right = rng.binomial(labelled, rng.beta(6, 4, 400))
    better = np.minimum(labelled, right + 3)
    runs = [
        PixelCounts(np.arange(400), np.arange(400), np.stack([each, labelled, labelled], axis=1))
        for each in (right, better)
    ]
    ratio = right.sum() / labelled.sum()
    half = 1.96 * np.std(right - ratio * labelled) / np.sqrt(400) / labelled.mean()  # the delta method of a ratio
    found, difference = estimate(pixel_accuracy(), runs[:1]), estimate_difference(pixel_accuracy(), runs[1:], runs[:1])
    np.testing.assert_allclose([found.low, found.high], [ratio - half, ratio + half], atol=0.15 * half)
    assert difference.value == pytest.approx((better - right).sum() / labelled.sum()) and difference.low > 0
    assert difference.high - difference.low < half
    nothing = PixelCounts(np.arange(3), np.arange(3), np.zeros((3, 3), dtype=int))
    assert "no finite number" in estimate(pixel_accuracy(), [nothing]).undefined_because
