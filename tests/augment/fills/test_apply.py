"""What holds for every fill."""

from importlib import import_module
from itertools import product
from threading import Barrier

import pytest
import torch

from maskrobust.augment import FILLS, apply_fill, patches, sample_keys, uniform
from maskrobust.errors import InputError

MEAN = (0.125, 0.5, 0.875)
KEYS = torch.arange(4) + 100
BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float64: torch.int64, torch.uint8: torch.uint8}
FLOATS = [dtype for dtype in BITS if dtype.is_floating_point]
SOME, IMAGE = uniform(KEYS, 1, 5, 7) < 0.6, torch.arange(4)[:, None, None, None]
HOLES = {
    "one image whole, one gone": (SOME | (IMAGE == 1)) & (IMAGE != 2),
    "all hidden": torch.zeros(4, 1, 5, 7, dtype=torch.bool),
    "nothing hidden": torch.ones(4, 1, 5, 7, dtype=torch.bool),
}
LOOKS_INTO_HOLE = [name for name, entry in FILLS.items() if entry.looks_into_hole]
BLIND_FILLS = [name for name in FILLS if name not in LOOKS_INTO_HOLE]
FLAT_FILLS = ["black", "mean", "random_colour"]
SMOOTH_FILLS = ["image_mean", "blur", "linear_imputation", "exemplar"]
every_fill = pytest.mark.parametrize("name", FILLS)


def images(dtype, seed=0, shape=(3, 5, 7)):
    numbers = uniform(KEYS + 1000 * (seed + 1), *shape)
    return (numbers * 256).to(dtype) if dtype == torch.uint8 else numbers.to(dtype)


def fill(name, pictures, visible):
    return apply_fill(name, pictures, visible, keys=KEYS, mean=MEAN)


@every_fill
def test_visible_pixels_keep_every_bit_and_the_fill_does_not_depend_on_hidden_ones(name):
    for dtype, visible in product(BITS, HOLES.values()):
        pictures = images(dtype)
        given = pictures.clone()
        filled = fill(name, pictures, visible)
        assert torch.equal(pictures, given)
        last = fill(name, pictures.contiguous(memory_format=torch.channels_last), visible)
        assert torch.equal(last, filled) and last.is_contiguous(memory_format=torch.channels_last)
        if name in BLIND_FILLS:
            garbage = [images(dtype, seed=1)]
            garbage += [torch.full_like(pictures, torch.nan if dtype.is_floating_point else 255)]
            for other in garbage:
                assert torch.equal(fill(name, torch.where(visible, pictures, other), visible), filled)
            assert filled.isfinite().all()
        if dtype.is_floating_point:
            special = [-0.0, float("nan"), float("inf"), -float("inf"), torch.finfo(dtype).tiny / 2]
            third = pictures.flatten()[::3]
            third.copy_(torch.tensor(special, dtype=dtype).repeat(100)[: third.numel()])
            filled = fill(name, pictures, visible)
        everywhere = visible.expand_as(pictures)
        assert filled.dtype == dtype and filled.shape == pictures.shape
        assert torch.equal(filled.view(BITS[dtype])[everywhere], pictures.view(BITS[dtype])[everywhere])


@every_fill
def test_bytes_as_floats_are_refused_before_anything_is_drawn(name):
    with pytest.raises(InputError, match=r"must be float in \[0, 1\], got a pixel of 100; divide bytes by 255"):
        fill(name, torch.full((4, 3, 5, 7), 100.0), HOLES["one image whole, one gone"])


@pytest.mark.parametrize("name", LOOKS_INTO_HOLE)
def test_a_fill_that_looks_into_the_hole_shows_something_of_it(name):
    pictures = images(torch.float32, shape=(3, 40, 40))
    visible = torch.arange(40).expand(4, 1, 40, 40) < 20
    other = torch.where(visible, pictures, images(torch.float32, seed=1, shape=(3, 40, 40)))
    assert (fill(name, pictures, visible) != fill(name, other, visible)).flatten(1).any(dim=1).all()


@pytest.mark.parametrize("name", FLAT_FILLS)
def test_each_hole_has_one_colour_in_zero_to_one_in_every_channel(name):
    for dtype, visible in product(FLOATS, HOLES.values()):
        filled = fill(name, images(dtype) + 5, visible)
        for picture, seen in zip(filled, visible, strict=True):
            hole = picture[:, ~seen[0]]
            assert (hole == hole[:, :1]).all()
            assert ((hole >= 0) & (hole <= 1)).all()
        assert torch.equal((filled <= 1), ~visible.expand_as(filled))


@every_fill
def test_the_gradient_is_one_where_visible_and_exactly_zero_in_the_hole(name):
    for visible in HOLES.values():
        hidden_value = 0.5 if name in LOOKS_INTO_HOLE else float("nan")
        pictures = images(torch.float64).masked_fill(~visible, hidden_value).requires_grad_()
        fill(name, pictures, visible).sum().backward()
        assert torch.equal(pictures.grad, visible.expand_as(pictures).double())


@every_fill
def test_eight_bits_show_what_floats_show(name):
    for visible in HOLES.values():
        pictures = images(torch.uint8)
        shown = fill(name, pictures, visible)
        exact = fill(name, pictures.double() / 255, visible) * 255
        assert shown.dtype == torch.uint8
        assert (shown - exact).abs().max() <= 0.5 + 1e-4


@every_fill
def test_what_is_drawn_lies_in_the_range_of_pixels(name):
    for dtype in BITS:
        for value in (0, 1 if dtype.is_floating_point else 255):
            filled = fill(name, torch.full((4, 3, 5, 7), value, dtype=dtype), SOME)
            assert ((filled >= 0) & (filled <= (1 if dtype.is_floating_point else 255))).all()


@pytest.mark.parametrize("name", SMOOTH_FILLS)
def test_an_image_of_one_colour_is_continued_in_every_channel(name):
    for dtype in FLOATS:
        colour = torch.tensor([51, 102, 204]).div(255).to(dtype)[:, None, None]
        filled = fill(name, colour.expand(4, 3, 5, 7).contiguous(), SOME)
        noise = 0.05 if name == "linear_imputation" else 0
        assert (filled - colour).abs().max() <= torch.finfo(dtype).eps + noise


@pytest.mark.parametrize("name", ["mean", "image_mean", "linear_imputation", "inpainting", "exemplar"])
def test_where_nothing_is_visible_the_mean_of_the_dataset_is_drawn(name):
    for dtype in BITS:
        white = 1 if dtype.is_floating_point else 255
        filled = fill(name, images(dtype), HOLES["one image whole, one gone"])[2].double() / white
        error = (filled - torch.tensor(MEAN, dtype=torch.float64)[:, None, None]).abs().max()
        assert error <= (0.05 if name == "linear_imputation" else 0.5 / 255)


@every_fill
def test_a_sample_is_filled_alike_alone_and_in_a_batch_of_64(name):
    for channels, dtype in ((1, torch.uint8), (3, torch.bfloat16), (3, torch.float32)):
        keys = sample_keys(0, torch.arange(64))
        pictures = (uniform(keys, channels, 33, 22) * (1 if dtype.is_floating_point else 255)).to(dtype)
        visible = uniform(keys + 1, 1, 33, 22) < uniform(keys + 2, 1, 1, 1)
        mean = [0.5] * channels
        filled = apply_fill(name, pictures, visible, keys=keys, mean=mean)
        for part in (slice(5, 6), slice(63, 64), slice(20, 37)):
            alone = apply_fill(name, pictures[part].clone(), visible[part].clone(), keys=keys[part], mean=mean)
            assert torch.equal(alone, filled[part])


@pytest.mark.parametrize(
    ("name", "of_one"), [("inpainting", "_inpaint"), ("linear_imputation", "_solve"), ("exemplar", "sources")]
)
def test_what_a_cpu_fills_it_fills_in_all_threads_at_once_and_alike(name, of_one, monkeypatch):
    """Each thread waits until the other computes, too."""
    keys, module = sample_keys(0, torch.arange(4)), import_module(f"maskrobust.augment.fills.{name}")
    pictures, visible = uniform(keys, 3, 33, 22), uniform(keys + 1, 1, 33, 22) < 0.5
    alone, both, fill_one = fill(name, pictures, visible), Barrier(2), getattr(module, of_one)
    monkeypatch.setattr(module, of_one, lambda *given: (both.wait(timeout=20), fill_one(*given))[1])
    torch.set_num_threads(2)
    try:
        assert torch.equal(fill(name, pictures, visible), alone)
    finally:
        torch.set_num_threads(1)


@every_fill
def test_any_size_is_filled(name):
    for size in ((1, 1), (2, 1), (1, 512), (31, 17), (127, 130)):
        key = torch.tensor([9])
        pictures = uniform(key, 3, *size)
        for threshold in (0.0, 0.3, 1.0):
            visible = uniform(key + 1, 1, *size) < threshold
            filled = apply_fill(name, pictures, visible, keys=key, mean=MEAN)
            assert filled.shape == pictures.shape and filled.isfinite().all()
            assert torch.equal(torch.where(visible, filled, 0), torch.where(visible, pictures, 0))


@every_fill
def test_autocast_changes_nothing(name):
    pictures = images(torch.float32, shape=(3, 24, 40))
    visible = patches(KEYS, 24, 40, hidden_fraction=(0.7, 0.7), patch_size=8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        filled = fill(name, pictures, visible)
    assert torch.equal(filled, fill(name, pictures, visible))
