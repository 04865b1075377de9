"""Drawing a fill into the hole, against `torch.where`."""

from itertools import product

import cv2
import pytest
import torch

from maskrobust.augment import uniform
from maskrobust.augment.fills.drawing import draw, from_pixels, to_pixels

KEYS = torch.arange(3)
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.uint8]
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@every_dtype
def test_drawing_is_where(dtype: torch.dtype) -> None:
    shapes = [(), (1, 4, 1, 1), (3, 4, 1, 1), (3, 4, 6, 5), (3, 1, 6, 5)]
    for shape, memory_format in product(shapes, (torch.contiguous_format, torch.channels_last)):
        images = (uniform(KEYS, 4, 6, 5) * 255).to(dtype).contiguous(memory_format=memory_format)
        fill = (uniform(KEYS + 1, 4, 6, 5) * 255).to(dtype).flatten()[: torch.Size(shape).numel()].reshape(shape)
        visible = uniform(KEYS + 2, 1, 6, 5) < 0.5
        drawn = draw(images, visible, fill)
        assert torch.equal(drawn, torch.where(visible, images, fill))
        assert drawn.is_contiguous(memory_format=memory_format)


@every_dtype
@pytest.mark.parametrize(("memory_format", "passes"), [(torch.channels_last, 1), (torch.contiguous_format, 3 * 4)])
def test_a_batch_is_drawn_in_one_pass_or_in_one_for_each_plane(
    dtype: torch.dtype, memory_format: torch.memory_format, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    copy = cv2.copyTo
    monkeypatch.setattr(cv2, "copyTo", lambda *arrays: sizes.append(arrays[0].size) or copy(*arrays))
    images = torch.ones(3, 4, 6, 5, dtype=dtype).contiguous(memory_format=memory_format)
    draw(images, torch.ones(3, 1, 6, 5, dtype=torch.bool), torch.zeros((), dtype=dtype))
    assert len(sizes) == passes and sum(sizes) == images.numel()


def test_what_needs_a_gradient_gets_one_and_is_drawn_alike() -> None:
    images, visible = uniform(KEYS, 3, 6, 5), uniform(KEYS + 1, 1, 6, 5) < 0.5
    fill = torch.full((), 0.25)
    drawn = draw(images.clone().requires_grad_(), visible, fill)
    assert drawn.requires_grad
    assert torch.equal(drawn, draw(images, visible, fill))


def test_bytes_become_numbers_and_bytes_again() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(from_pixels(pixels), torch.arange(256) / 255)
    assert torch.equal(to_pixels(from_pixels(pixels), torch.uint8), pixels)
    assert to_pixels(torch.tensor([-0.2, 0.0019, 0.002, 1.3]), torch.uint8).tolist() == [0, 0, 1, 255]
