"""What NumPy and OpenCV compute on a CPU is, bit for bit, what torch computes elsewhere."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from maskrobust.augment import apply_fill, blobs, fold_in, patches, random_order, rectangles, sample_keys, uniform
from maskrobust.augment.random import permutation

KEYS = sample_keys(3, torch.arange(12))
SIZES = [(1, 9), (33, 17), (64, 64)]
HALF = {"hidden_fraction": (0.0, 1.0)}
DRAWS: dict[str, Callable[[int, int], Tensor]] = {
    "keys": lambda height, width: fold_in(KEYS, height - width),
    "key": lambda height, width: fold_in(KEYS[width % 12], height).reshape(1),
    "numbers": lambda height, width: uniform(KEYS, height, width),
    "order": lambda height, width: random_order(KEYS, torch.arange(height * width).view(1, height, width)),
    "patches": lambda height, width: patches(KEYS, height, width, patch_size=(3, 7), **HALF),
    "shifted patches": lambda height, width: patches(KEYS, height, width, patch_size=4, random_offset=True, **HALF),
    "rectangle": lambda height, width: rectangles(KEYS, height, width, **HALF),
    "rectangles": lambda height, width: rectangles(KEYS, height, width, count=min(3, height), **HALF),
    "blobs": lambda height, width: blobs(KEYS, height, width, **HALF),
    "whole": lambda height, width: blobs(KEYS, height, width, hidden_fraction=(1.0, 1.0)),
    "few knots": lambda height, width: blobs(KEYS, height, width, knots=2, **HALF),
}


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", DRAWS)
def test_masks_and_numbers(name, size, monkeypatch):
    on_cpu = DRAWS[name](*size)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    elsewhere = DRAWS[name](*size)
    assert on_cpu.dtype == elsewhere.dtype and on_cpu.is_contiguous() and torch.equal(on_cpu, elsewhere)


@pytest.mark.parametrize("name", ["black", "mean", "random_colour", "blur"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_fills(name, dtype, layout, monkeypatch):
    visible = patches(KEYS, 33, 17, patch_size=4, **HALF)
    images = (uniform(KEYS, 3, 33, 17) * (255 if dtype == torch.uint8 else 1)).to(dtype).to(memory_format=layout)
    if dtype.is_floating_point:
        images[0, 0, 0, :3] = torch.tensor([torch.nan, -0.0, torch.inf])
    fill = partial(apply_fill, name, images, visible, keys=KEYS, mean=(0.1, 0.5, 0.9))
    on_cpu = fill()
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    elsewhere = fill()
    bits = [each.contiguous().view(torch.uint8) for each in (on_cpu, elsewhere)]
    assert torch.equal(*bits) and on_cpu.stride() == elsewhere.stride() == images.stride()


@pytest.mark.parametrize("count", [0, 1, 300])
def test_a_permutation_is_the_stable_order_of_uniform_numbers(count):
    assert torch.equal(permutation(KEYS, count), uniform(KEYS, count).argsort(dim=1, stable=True))
