"""What holds for every fill."""

import pytest
import torch
from torch import Tensor

from augment import FILLS, FillName, apply_fill, fill_black, fill_mean, fill_random_colour, uniform

MEAN = (0.125, 0.5, 0.875)
KEYS = torch.arange(4) + 100
BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float64: torch.int64}
HOLES = {
    "some hidden": uniform(KEYS, 1, 5, 7) < 0.6,
    "one image whole": (uniform(KEYS, 1, 5, 7) < 0.6) | (torch.arange(4) == 2)[:, None, None, None],
    "all hidden": torch.zeros(4, 1, 5, 7, dtype=torch.bool),
    "nothing hidden": torch.ones(4, 1, 5, 7, dtype=torch.bool),
}
every_fill = pytest.mark.parametrize("name", FILLS)
every_dtype = pytest.mark.parametrize("dtype", BITS.keys(), ids=str)
every_hole = pytest.mark.parametrize("visible", HOLES.values(), ids=HOLES.keys())


def images(dtype: torch.dtype, seed: int = 0) -> Tensor:
    return uniform(KEYS + 1000 * (seed + 1), 3, 5, 7).to(dtype)


def fill(name: FillName, pictures: Tensor, visible: Tensor) -> Tensor:
    return apply_fill(name, pictures, visible, keys=KEYS, mean=MEAN)


def test_every_fill_has_a_name() -> None:
    assert FILLS == ("black", "mean", "random_colour")


@every_hole
def test_the_names_stand_for_the_functions(visible: Tensor) -> None:
    pictures = images(torch.float32)
    assert torch.equal(fill("black", pictures, visible), fill_black(pictures, visible))
    assert torch.equal(fill("mean", pictures, visible), fill_mean(pictures, visible, MEAN))
    assert torch.equal(fill("random_colour", pictures, visible), fill_random_colour(pictures, visible, KEYS))


@every_fill
@every_dtype
@every_hole
def test_visible_pixels_are_unchanged_bit_for_bit(name: FillName, dtype: torch.dtype, visible: Tensor) -> None:
    pictures = images(dtype)
    special = torch.tensor([-0.0, float("nan"), float("inf"), -float("inf"), torch.finfo(dtype).tiny / 2], dtype=dtype)
    pictures.flatten()[::3] = special.repeat(100)[: pictures.flatten()[::3].numel()]
    filled = fill(name, pictures, visible)
    everywhere = visible.expand_as(pictures)
    assert filled.dtype == dtype and filled.shape == pictures.shape
    assert torch.equal(filled.view(BITS[dtype])[everywhere], pictures.view(BITS[dtype])[everywhere])


@every_fill
@every_dtype
@every_hole
def test_the_result_does_not_depend_on_what_the_hole_held(name: FillName, dtype: torch.dtype, visible: Tensor) -> None:
    pictures = images(dtype)
    filled = fill(name, pictures, visible)
    for other in (images(dtype, seed=1), torch.full_like(pictures, float("nan")), torch.full_like(pictures, torch.inf)):
        assert torch.equal(fill(name, torch.where(visible, pictures, other), visible), filled)
    assert filled.isfinite().all()


@every_fill
@every_dtype
@every_hole
def test_each_hole_has_one_colour_in_zero_to_one_in_every_channel(
    name: FillName, dtype: torch.dtype, visible: Tensor
) -> None:
    filled = fill(name, images(dtype) + 5, visible)
    for picture, seen in zip(filled, visible, strict=True):
        hole = picture[:, ~seen[0]]
        assert (hole == hole[:, :1]).all()
        assert ((hole >= 0) & (hole <= 1)).all()
    assert torch.equal((filled <= 1), ~visible.expand_as(filled))


@every_fill
def test_the_given_images_are_left_alone(name: FillName) -> None:
    pictures = images(torch.float32)
    fill(name, pictures, HOLES["some hidden"])
    fill(name, pictures, HOLES["nothing hidden"]).zero_()
    assert torch.equal(pictures, images(torch.float32))


@every_fill
@every_hole
def test_the_gradient_is_one_where_visible_and_exactly_zero_in_the_hole(name: FillName, visible: Tensor) -> None:
    pictures = images(torch.float64).masked_fill(~visible, float("nan")).requires_grad_()
    fill(name, pictures, visible).sum().backward()
    assert pictures.grad is not None
    assert torch.equal(pictures.grad, visible.expand_as(pictures).double())


@every_fill
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_any_number_of_channels_is_filled(name: FillName, channels: int) -> None:
    pictures = torch.full((4, channels, 1, 1), 7.0)
    filled = apply_fill(name, pictures, torch.zeros(4, 1, 1, 1, dtype=torch.bool), keys=KEYS, mean=[0.5] * channels)
    assert filled.shape == pictures.shape and (filled <= 1).all()


@every_fill
@pytest.mark.parametrize("shape", [(5, 7), (3, 5, 7), (4, 3, 5, 7), (1, 1, 5, 7), (4, 1, 1, 7)])
def test_a_visible_that_would_only_broadcast_is_refused(name: FillName, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="visible must have shape"):
        fill(name, images(torch.float32), torch.ones(shape, dtype=torch.bool))
