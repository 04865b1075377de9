"""`visible` in a batch, and the one that images bring with them."""

import numpy as np
import pytest
import torch

from maskrobust import LayerMasking, apply_fill, predictor, visible_from
from maskrobust.augment import Batch, check_visible
from maskrobust.errors import InputError
from tests.conftest import refused

IMAGES = torch.zeros(2, 3, 5, 7)


MASK = torch.rand(3, 1, 4, 5) < 0.5
BATCH = Batch(torch.arange(3), torch.rand(3, 3, 4, 5), MASK, torch.tensor([2, 0, 1]), ~MASK)


@pytest.mark.parametrize("index", [torch.tensor([2, 0, 2]), torch.tensor([True, False, True]), slice(2), 1], ids=str)
def test_selecting_takes_the_same_samples_of_every_tensor(index):
    for field, selected in zip(BATCH, BATCH.select(index), strict=True):
        assert torch.equal(selected, field[index])


def test_a_batch_moves_to_a_device_as_a_whole():
    assert {tensor.device.type for tensor in BATCH.to("meta")} == {"meta"}
    assert all(moved is field for moved, field in zip(BATCH.to("cpu"), BATCH, strict=True))


def test_bytes_become_numbers_in_the_unit_range_on_the_device_each_the_nearest_float():
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    images = BATCH._replace(images=every).to("cpu").images
    expected = (np.arange(256) / 255).astype(np.float32).reshape(1, 1, 16, 16)
    assert images.dtype == torch.float32 and np.array_equal(images.numpy(), expected)


@pytest.mark.parametrize(
    "shape", [(2, 5, 7), (5, 7), (2, 3, 5, 7), (1, 1, 5, 7), (3, 1, 5, 7), (2, 1, 7, 5), (2, 1, 1, 1), (2, 1, 5, 8)]
)
def test_a_visible_of_another_shape_is_refused_even_where_it_would_broadcast(shape):
    with refused(ValueError, str(shape), "(2, 1, 5, 7)", match="visible must have shape"):
        check_visible(IMAGES, torch.ones(shape, dtype=torch.bool))


NAN = float("nan")


def pictures(batch=2):
    return 1 + torch.rand(batch, 3, 4, 5, generator=torch.Generator().manual_seed(0))


def test_every_form_in_which_data_mark_a_pixel_gives_the_same_mask():
    hidden = torch.zeros(2, 1, 4, 5, dtype=torch.bool)
    hidden[0, 0, :2, 1:3] = hidden[1, 0, 3] = True
    images = pictures()
    opacity = torch.where(hidden, 0.0, 0.5)
    forms = {
        "nodata": visible_from(images.masked_fill(hidden, -9999), nodata=-9999),
        "nodata of each band": visible_from(
            torch.where(hidden, torch.tensor([0.1, 2, 3])[:, None, None], images), nodata=[0.1, 2, 3]
        ),
        "nodata NaN": visible_from(images.masked_fill(hidden, NAN), nodata=NAN, nan=False),
        "bytes": visible_from((100 * images).byte().masked_fill(hidden, 0), nodata=0),
        "NaN": visible_from(images.masked_fill(hidden, NAN)),
        "alpha band": visible_from(torch.cat([images, opacity], dim=1), alpha=-1),
        "alpha band, black elsewhere": visible_from(torch.cat([opacity, 0 * images], dim=1), alpha=0),
        "alpha": visible_from(images, alpha=opacity[:, 0]),
        "pixel mask": visible_from(images, pixel_mask=(~hidden)[:, 0].long()),
        "padding mask": visible_from(images, padding_mask=hidden),
    }
    assert {name: torch.equal(visible, ~hidden) for name, visible in forms.items()} == dict.fromkeys(forms, True)
    one = visible_from(images[1], padding_mask=hidden[1], alpha=opacity[1])
    assert torch.equal(one, ~hidden[1]) and one.dtype == torch.bool


@pytest.mark.parametrize("size", [(20,), (2, 2, 5)], ids=["signals", "volumes"])
def test_signals_and_volumes_are_marked_as_images_are(size):
    def reshaped(tensor):
        return tensor.reshape(*tensor.shape[:-2], *size)

    images, hidden = pictures(), torch.rand(2, 1, 4, 5, generator=torch.Generator().manual_seed(2)) < 0.4
    marked = torch.where(hidden, torch.tensor([0.5, 2, 3])[:, None, None], images)
    marked[0, 1, 3, 4] = NAN
    opacity = torch.rand(2, 4, 5, generator=torch.Generator().manual_seed(3)).round()
    for options in ({"nodata": [0.5, 2, 3]}, {"alpha": opacity}, {"pixel_mask": opacity}, {"padding_mask": hidden}):
        given = {name: reshaped(each) if isinstance(each, torch.Tensor) else each for name, each in options.items()}
        expected, axes = visible_from(marked, **options), len(size)
        assert torch.equal(visible_from(reshaped(marked), **given, axes=axes), reshaped(expected))
        first = {name: each[0] if isinstance(each, torch.Tensor) else each for name, each in given.items()}
        assert torch.equal(visible_from(reshaped(marked)[0], **first, axes=axes), reshaped(expected)[0])
    with pytest.raises(InputError, match=r"images must be \(B, C, (L|D, H, W)\) or \(C, (L|D, H, W)\), got"):
        visible_from(torch.zeros(5), axes=axes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("nodata", [-9999, 0.1, NAN, -3.4e38], ids=str)
def test_nodata_is_found_in_images_of_any_floating_type(nodata, dtype):
    hidden = torch.rand(2, 1, 4, 5, generator=torch.Generator().manual_seed(1)) < 0.4
    images = torch.where(hidden, torch.tensor(nodata, dtype=torch.float64), pictures().double()).to(dtype)
    assert torch.equal(visible_from(images, nodata=nodata, nan=False), ~hidden)


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (torch.uint8, [256, -1, 0.5, NAN, float("inf")]),
        (torch.int16, [-32769, 40000]),
        (torch.uint16, [65536, -9999]),
        (torch.bool, [2]),
    ],
    ids=str,
)
def test_a_nodata_value_that_integer_pixels_cannot_hold_is_refused(dtype, values):
    images = torch.ones(1, 3, 4, 5, dtype=dtype)
    for value in values:
        with pytest.raises(InputError, match=r"nodata must be a value of the images, which are \w+ \(whole numbers"):
            visible_from(images, nodata=value)
    images[0, :, 0, 0] = 0
    assert visible_from(images, nodata=0).sum() == 19


def test_nodata_is_what_all_bands_hold_and_nan_what_any_holds():
    images = pictures(1)
    images[0, 0, 0, 0], images[0, :, 1, 1], images[0, 2, 2, 2] = 0, 0, NAN
    visible = visible_from(images, nodata=0)
    assert np.argwhere(~visible[0, 0].numpy()).tolist() == [[1, 1], [2, 2]]


def test_masks_of_several_forms_hide_together():
    images, padding, opacity = pictures(1), torch.zeros(1, 4, 5, dtype=torch.bool), torch.ones(1, 4, 5)
    padding[..., 4], opacity[..., 0], images[:, :, 0] = True, 0.0, NAN
    assert visible_from(images, padding_mask=padding, alpha=opacity).sum() == 9


@pytest.mark.parametrize(
    ("images", "given", "message"),
    [
        (
            pictures().index_fill(0, torch.tensor([1]), 0),
            {"nodata": 0},
            r"image 1 of the batch has no visible pixel; leave",
        ),
        (
            pictures().index_fill(3, torch.tensor([2]), NAN),
            {"nan": False},
            r"image 0 of the batch holds NaN at a visible",
        ),
        (
            pictures(),
            {"pixel_mask": torch.ones(2, 5, 4)},
            r"pixel_mask must have shape \(2, 1, 4, 5\).*got \(2, 1, 5, 4\)",
        ),
        (pictures(), {"padding_mask": torch.full((2, 4, 5), 255)}, r"padding_mask must hold 0 and 1 only, .* 255"),
        (pictures(), {"alpha": 3}, r"alpha must be one of the 3 bands of images, got band 3"),
        (pictures(), {"nodata": [0, 0]}, r"nodata must be one value, or one for each of the 3 bands, got 2"),
        (pictures()[0, 0], {}, r"images must be \(B, C, H, W\) or \(C, H, W\), got shape \(4, 5\)"),
    ],
)
def test_what_does_not_fit_is_refused(images, given, message):
    with pytest.raises(InputError, match=message):
        visible_from(images, **given)


@pytest.mark.parametrize("given", [{}, {"pixel_mask": np.ones((2, 4, 5))}, {"padding_mask": [[1]]}], ids=str)
def test_what_is_no_tensor_is_refused_by_its_name_and_type(given):
    images = pictures() if given else pictures().numpy()
    name = next(iter(given), "images")
    with pytest.raises(TypeError, match=f"{name} must be a torch tensor, got .*; convert it"):
        visible_from(images, **given)


@pytest.mark.parametrize("shape", [(2, 16, 20, 3), (1, 224, 224, 1), (3, 64, 48, 4), (2, 64, 64, 12)])
def test_images_whose_last_axis_are_colours_are_refused_by_every_entrance(shape):
    images = torch.rand(shape)
    visible = torch.ones(shape[0], 1, *shape[2:], dtype=torch.bool)
    masked = LayerMasking(torch.nn.Conv2d(shape[1], 2, 1))
    predict = predictor(lambda images: images.mean((2, 3)), "black", [0.5] * 3, [0.5] * 3)
    keys = torch.arange(shape[0])
    entrances = {
        "visible_from": lambda: visible_from(images),
        "one image": lambda: visible_from(images[0]),
        "LayerMasking": lambda: masked(images, visible),
        "fill": lambda: apply_fill("black", images, visible, keys=keys, mean=(0.5, 0.5, 0.5)),
        "predictor": lambda: predict(images, visible, keys),
    }
    for enter in entrances.values():
        with pytest.raises(InputError, match=r"which looks like \((B, )?H, W, C\); permute them, as with"):
            enter()


@pytest.mark.parametrize("shape", [(2, 13, 20, 3), (2, 64, 8, 8), (2, 64, 7, 4), (1, 3, 224, 4), (2, 3, 5, 5)])
def test_narrow_images_of_many_bands_are_no_images_of_colours(shape):
    visible = torch.ones(shape[0], 1, *shape[2:], dtype=torch.bool)
    assert visible_from(torch.rand(shape)).equal(visible)
    check_visible(torch.rand(shape), visible)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64], ids=str)
def test_pixels_far_from_the_unit_range_are_refused_by_fills_where_they_are_visible(dtype):
    visible = torch.rand(2, 1, 20, 20, generator=torch.Generator().manual_seed(0)) < 0.5
    images = torch.rand(2, 3, 20, 20).to(dtype)
    for far in (255.0, -100.0, float("inf")):
        hidden = torch.where(visible, images, torch.tensor(far, dtype=dtype))
        shown = torch.where(visible, torch.tensor(far, dtype=dtype), images)
        for name in ("black", "mean", "random_colour", "blur", "uniform_noise"):
            given = {"keys": torch.arange(2), "mean": (0.5, 0.5, 0.5)}
            assert apply_fill(name, hidden, visible, **given).isfinite().all() or name == "blur"
            with pytest.raises(InputError, match=r"images must be float in \[0, 1\], got a pixel of"):
                apply_fill(name, shown, visible, **given)
