"""Irregular blobs: exact to a pixel, everywhere equally often, smooth, and cut as a full sort would cut them."""

import pytest
import torch
from scipy import ndimage, stats

from maskrobust.augment import blobs, sample_keys
from maskrobust.augment.families.irregular import hide_lowest

SIZES = [(1, 1), (1, 9), (9, 1), (2, 3), (7, 5), (33, 17), (64, 64), (5, 512)]
FRACTIONS = [0.0, 0.01, 0.1, 1 / 3, 0.5, 0.77, 0.99, 1.0]


@pytest.mark.parametrize("size", SIZES)
def test_the_hidden_pixels_are_exact(size: tuple[int, int]) -> None:
    for fraction in FRACTIONS:
        visible = blobs(sample_keys(0, torch.arange(20)), *size, hidden_fraction=(fraction, fraction))
        hidden = (~visible).sum(dim=(1, 2, 3))
        assert (hidden == hidden[0]).all()
        assert abs(int(hidden[0]) - fraction * size[0] * size[1]) <= 0.5 + 1e-5


@pytest.mark.parametrize("size", [(512, 512), (511, 333)])
def test_large_images_are_exact_too(size: tuple[int, int]) -> None:
    visible = blobs(torch.arange(2), *size, hidden_fraction=(0.3, 0.3))
    assert (~visible).sum(dim=(1, 2, 3)).tolist() == [round(0.3 * size[0] * size[1])] * 2


def test_the_hidden_fraction_is_uniform_over_the_range() -> None:
    visible = blobs(sample_keys(1, torch.arange(2000)), 20, 25, hidden_fraction=(0.2, 0.7))
    hidden = 1 - visible.double().mean(dim=(1, 2, 3))
    assert stats.kstest(hidden, stats.uniform(0.2, 0.5).cdf).pvalue > 1e-3


@pytest.mark.parametrize("fraction", [0.2, 0.7])
def test_every_place_is_hidden_equally_often(fraction: float) -> None:
    count = 1500
    visible = blobs(sample_keys(2, torch.arange(count)), 30, 30, hidden_fraction=(fraction, fraction))
    # Pixels far from each other are nearly independent: a grid of 5 x 5 of them, each hidden binomially.
    for down, across in [(0, 0), (2, 3), (4, 1)]:
        hidden = (~visible[:, 0, down::6, across::6]).sum(dim=0).double().flatten()
        deviation = (hidden - count * fraction) / (count * fraction * (1 - fraction)) ** 0.5
        assert deviation.abs().max() < 4


@pytest.mark.parametrize("levels", [1, 3, 50, 4096])
def test_the_cut_is_that_of_a_stable_sort(levels: int) -> None:
    generator = torch.Generator().manual_seed(levels)
    noise = torch.randint(0, levels, (50, 6, 11), generator=generator).short()
    wanted = torch.randint(0, 67, (50,), generator=generator)
    wanted[:2] = torch.tensor([0, 66])
    visible = hide_lowest(noise, wanted)
    for image, pixels, seen in zip(noise, wanted.tolist(), visible, strict=True):
        hidden = torch.zeros(66, dtype=torch.bool)
        hidden[image.flatten().argsort(stable=True)[:pixels]] = True
        assert torch.equal(~seen.flatten(), hidden)


def test_blobs_are_few_pieces_and_more_knots_make_more_of_them() -> None:
    keys = sample_keys(3, torch.arange(40))
    pieces = {}
    for knots in (3, 6, 16):
        visible = blobs(keys, 64, 64, hidden_fraction=(0.3, 0.3), knots=knots)
        pieces[knots] = sum(ndimage.label(~image[0].numpy())[1] for image in visible) / 40
    assert pieces[3] < pieces[6] < pieces[16]
    assert 1 < pieces[6] < 20


@pytest.mark.parametrize("knots", [1, 0, -2])
def test_too_few_knots_are_refused(knots: int) -> None:
    with pytest.raises(ValueError, match=f"knots must be at least 2, got {knots}"):
        blobs(torch.arange(2), 8, 8, hidden_fraction=(0.5, 0.5), knots=knots)
