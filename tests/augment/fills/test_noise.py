"""What noise is drawn."""

import pytest
import torch
from scipy import stats

from maskrobust.augment import fill_gaussian_noise, fill_uniform_noise, sample_keys
from maskrobust.augment.fills.noise import gaussian

KEYS = sample_keys(0, torch.arange(50))
NOISES = {"uniform": fill_uniform_noise, "gaussian": fill_gaussian_noise}
HIDDEN = torch.zeros(50, 1, 13, 11, dtype=torch.bool)
every_noise = pytest.mark.parametrize("name", NOISES)


def test_uniform_noise_is_uniform():
    noise = fill_uniform_noise(torch.ones(50, 3, 13, 11), HIDDEN, KEYS).flatten()
    assert stats.kstest(noise, "uniform").pvalue > 1e-3


def test_gaussian_noise_is_gaussian_about_a_half_and_clipped():
    noise = fill_gaussian_noise(torch.ones(50, 3, 13, 11), HIDDEN, KEYS).flatten()
    inside = noise[(noise > 0) & (noise < 1)]
    assert noise.min() == 0 and noise.max() == 1
    assert stats.kstest(inside, stats.truncnorm(-2, 2, loc=0.5, scale=0.25).cdf).pvalue > 1e-3
    clipped = int(((noise == 0) | (noise == 1)).sum())
    assert stats.binomtest(clipped, len(noise), 2 * stats.norm.cdf(-2)).pvalue > 1e-3


def test_gaussian_numbers_are_standard_normal_far_into_the_tails():
    numbers = gaussian(sample_keys(1, torch.arange(100)), 10_000).flatten()
    assert stats.kstest(numbers, "norm").pvalue > 1e-3
    for bound in (2.0, 3.0, 3.7):
        assert stats.binomtest(int((numbers > bound).sum()), len(numbers), stats.norm.sf(bound)).pvalue > 1e-3
        assert stats.binomtest(int((numbers < -bound).sum()), len(numbers), stats.norm.sf(bound)).pvalue > 1e-3
    assert numbers.abs().max() < 4.33


@every_noise
def test_noise_is_independent_over_pixels_channels_and_images(name: str) -> None:
    noise = NOISES[name](torch.ones(50, 3, 13, 11), HIDDEN, KEYS)
    pairs = [
        (noise[:, 0], noise[:, 1]),
        (noise[:, 0], noise[:, 2]),
        (noise[..., 1:], noise[..., :-1]),
        (noise[:, :, 1:], noise[:, :, :-1]),
        (noise[1:], noise[:-1]),
    ]
    for first, second in pairs:
        assert stats.pearsonr(first.flatten(), second.flatten()).pvalue > 1e-3
