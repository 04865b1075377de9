"""Drawing a fill into the hole, against `torch.where`."""

import torch

from maskrobust.augment.fills.drawing import from_pixels, to_pixels


def test_bytes_become_numbers_and_bytes_again():
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(from_pixels(pixels), torch.arange(256) / 255)
    assert torch.equal(to_pixels(from_pixels(pixels), torch.uint8), pixels)
    assert to_pixels(torch.tensor([-0.2, 0.0019, 0.002, 1.3]), torch.uint8).tolist() == [0, 0, 1, 255]
