"""Inpainting, against OpenCV's own call."""

import cv2
import numpy as np
import pytest
import torch

from maskrobust.augment import fill_inpainting, patches, uniform

KEYS = torch.arange(3)
MEAN = (0.5, 0.5, 0.5)
VISIBLE = patches(KEYS, 33, 46, hidden_fraction=(0.3, 0.6), patch_size=8)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_it_is_what_opencv_makes_of_each_channel_with_black_in_the_hole(channels, dtype):
    pixels = (uniform(KEYS, channels, 33, 46) * 256).to(torch.uint8)
    images = pixels if dtype == torch.uint8 else pixels.to(dtype) / 255
    filled = fill_inpainting(images, VISIBLE, [0.5] * channels)
    as_bytes = filled if dtype == torch.uint8 else (filled * 255).round().to(torch.uint8)
    for sample in range(3):
        hole = (~VISIBLE[sample, 0]).numpy().astype(np.uint8)
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
