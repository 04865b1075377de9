"""The fills of one colour, noise, blur, OpenCV's inpainting and Patch Mixing, each against its reference."""

import cv2
import numpy as np
import pytest
import torch
from scipy import stats
from scipy.ndimage import gaussian_filter

from maskrobust.augment import (
    draw_partners,
    fill_blur,
    fill_inpainting,
    fill_random_colour,
    fill_uniform_noise,
    mix_images,
    own_weight,
    patches,
    sample_keys,
    uniform,
)
from maskrobust.augment.fills.noise import gaussian


def test_random_colours_are_uniform_and_independent_over_images_and_channels():
    keys = sample_keys(0, torch.arange(4000))
    colours = fill_random_colour(torch.ones(4000, 3, 1, 1), torch.zeros(4000, 1, 1, 1, dtype=torch.bool), keys)
    red, green, blue = colours.flatten(1).unbind(dim=1)
    for channel in (red, green, blue):
        assert stats.kstest(channel, "uniform").pvalue > 1e-3
    for first, second in [(red, green), (red, blue), (green, blue), (red[1:], red[:-1])]:
        assert stats.pearsonr(first, second).pvalue > 1e-3


SIZES = [(1, 1), (1, 40), (40, 1), (2, 300), (23, 57), (64, 64), (224, 224), (511, 300)]


def all_hidden(images):
    return torch.zeros_like(images[:, :1], dtype=torch.bool)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_it_is_a_gaussian_filter_over_an_image_continued_by_its_border(size):
    images = uniform(torch.arange(1), 2, *size).double()
    deviation = min(size) * 10 / 224
    expected = gaussian_filter(images.numpy(), deviation, mode="nearest", truncate=4.0, axes=(2, 3))
    np.testing.assert_allclose(fill_blur(images, all_hidden(images)), expected, atol=1e-12)
    np.testing.assert_allclose(fill_blur(images.float(), all_hidden(images)), expected, atol=1e-6)


KEYS = sample_keys(0, torch.arange(50))
HIDDEN = torch.zeros(50, 1, 13, 11, dtype=torch.bool)


def test_gaussian_numbers_are_standard_normal_far_into_the_tails():
    numbers = gaussian(sample_keys(1, torch.arange(100)), 10_000).flatten()
    assert stats.kstest(numbers, "norm").pvalue > 1e-3
    for bound in (2.0, 3.0, 3.7):
        assert stats.binomtest(int((numbers > bound).sum()), len(numbers), stats.norm.sf(bound)).pvalue > 1e-3
        assert stats.binomtest(int((numbers < -bound).sum()), len(numbers), stats.norm.sf(bound)).pvalue > 1e-3
    assert numbers.abs().max() < 4.33


def test_noise_is_uniform_and_independent_over_pixels_channels_and_images():
    noise = fill_uniform_noise(torch.ones(50, 3, 13, 11), HIDDEN, KEYS)
    assert stats.kstest(noise.flatten(), "uniform").pvalue > 1e-3
    pairs = [
        (noise[:, 0], noise[:, 1]),
        (noise[:, 0], noise[:, 2]),
        (noise[..., 1:], noise[..., :-1]),
        (noise[:, :, 1:], noise[:, :, :-1]),
        (noise[1:], noise[:-1]),
    ]
    for first, second in pairs:
        assert stats.pearsonr(first.flatten(), second.flatten()).pvalue > 1e-3


THREE = torch.arange(3)
MEAN = (0.5, 0.5, 0.5)
PATCHES = patches(THREE, 33, 46, hidden_fraction=(0.3, 0.6), patch_size=8)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_it_is_what_opencv_makes_of_each_channel_with_black_in_the_hole(channels, dtype):
    pixels = (uniform(THREE, channels, 33, 46) * 256).to(torch.uint8)
    images = pixels if dtype == torch.uint8 else pixels.to(dtype) / 255
    filled = fill_inpainting(images, PATCHES, [0.5] * channels)
    as_bytes = filled if dtype == torch.uint8 else (filled * 255).round().to(torch.uint8)
    for sample in range(3):
        hole = (~PATCHES[sample, 0]).numpy().astype(np.uint8)
        for channel in range(channels):
            black = np.where(hole, 0, pixels[sample, channel].numpy()).astype(np.uint8)
            expected = cv2.inpaint(black, hole, 3, cv2.INPAINT_TELEA)
            np.testing.assert_array_equal(as_bytes[sample, channel], expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
@pytest.mark.parametrize("size", [(1, 40), (40, 1), (1, 2), (2, 1)], ids=str)
def test_a_line_is_inpainted_as_two_lines_that_are_alike(size, dtype):
    keys = torch.arange(30)
    pixels, visible = (uniform(keys, 3, *size) * 256).to(torch.uint8), uniform(keys + 1, 1, *size) < 0.4
    images, twice = pixels if dtype == torch.uint8 else pixels / 255, (1, 1, 1 + (size[0] == 1), 1 + (size[1] == 1))
    expected = fill_inpainting(images.repeat(twice), visible.repeat(twice), MEAN)[:, :, : size[0], : size[1]]
    for hidden in (images, torch.zeros_like(images), images.flip(0)):
        filled = fill_inpainting(torch.where(visible, images, hidden), visible, MEAN)
        assert torch.equal(filled, expected)


FIVE = sample_keys(0, torch.arange(5))
VISIBLE = uniform(FIVE + 1, 1, 7, 9) < 0.6


@pytest.mark.parametrize("batch_size", [2, 3, 5, 64])
def test_nobody_is_their_own_partner(batch_size):
    for seed in range(50):
        partners = draw_partners(sample_keys(seed, torch.arange(batch_size)))
        assert partners.dtype == torch.int64 and partners.shape == (batch_size,)
        assert ((partners >= 0) & (partners < batch_size) & (partners != torch.arange(batch_size))).all()


def test_an_image_alone_is_its_own_partner_and_an_empty_batch_has_none():
    assert draw_partners(FIVE[:1]).tolist() == [0]
    assert draw_partners(FIVE[:0]).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.uint8], ids=str)
def test_the_hole_shows_the_partner_at_the_same_place(dtype):
    images = (uniform(FIVE, 3, 7, 9) * (255 if dtype == torch.uint8 else 1)).to(dtype)
    partners = torch.tensor([3, 0, 0, 4, 2])
    mixed = mix_images(images, VISIBLE, partners)
    assert mixed.dtype == dtype
    for image, partner in enumerate(partners):
        for row in range(7):
            for column in range(9):
                source = image if VISIBLE[image, 0, row, column] else int(partner)
                assert torch.equal(mixed[image, :, row, column], images[source, :, row, column])


def test_the_own_weight_is_the_visible_share():
    visible = torch.ones(3, 1, 4, 5, dtype=torch.bool)
    visible[1, :, :3], visible[2] = False, False
    assert own_weight(visible).tolist() == [1.0, 0.25, 0.0]
    assert own_weight(VISIBLE[:0]).shape == (0,)
