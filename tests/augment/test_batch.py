"""The check of `visible` against `images`."""

import numpy as np
import pytest
import torch

from maskrobust.augment import Batch, check_visible

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
    "shape",
    [(2, 5, 7), (5, 7), (2, 3, 5, 7), (1, 1, 5, 7), (3, 1, 5, 7), (2, 1, 7, 5), (2, 1, 1, 1), (2, 1, 5, 8)],
)
def test_a_visible_of_another_shape_is_refused_even_where_it_would_broadcast(shape):
    with pytest.raises(ValueError, match="visible must have shape") as caught:
        check_visible(IMAGES, torch.ones(shape, dtype=torch.bool))
    assert str(shape) in str(caught.value)
    assert "(2, 1, 5, 7)" in str(caught.value)
