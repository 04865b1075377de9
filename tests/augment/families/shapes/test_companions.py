"""Companion blobs: exact area, clear of the object, a function of key and object alone."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from maskrobust.augment.families.shapes.circles import enclosing_circles
from maskrobust.augment.families.shapes.holes import companion_blobs
from maskrobust.augment.random import sample_keys

EIGHT_NEIGHBOURS = np.ones((3, 3))


def boxes(count: int, height: int, width: int) -> Tensor:
    """A box of random size and place in each image."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.arange(height), torch.arange(width)
    top = torch.randint(0, height - 4, (count, 1), generator=generator)
    left = torch.randint(0, width - 4, (count, 1), generator=generator)
    inside_rows = (rows >= top) & (rows < top + height // 3)
    inside_columns = (columns >= left) & (columns < left + width // 4)
    return (inside_rows[:, :, None] & inside_columns[:, None, :]).unsqueeze(1)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 45), (64, 17)])
@pytest.mark.parametrize("pixels", [0, 1, 60, 200])
def test_a_blob_has_exactly_the_area_asked_for_and_keeps_clear_of_the_object(
    height: int, width: int, pixels: int
) -> None:
    objects = boxes(40, height, width)
    blobs, fits = companion_blobs(sample_keys(1, torch.arange(40)), objects, torch.full((40,), pixels))
    assert blobs.dtype == torch.bool
    assert fits.all()
    assert (blobs.sum(dim=(1, 2, 3)) == pixels).all()
    for blob, box in zip(blobs, objects, strict=True):
        grown = ndimage.binary_dilation(box[0].numpy(), structure=EIGHT_NEIGHBOURS)
        assert not (grown & blob[0].numpy()).any()


def test_where_the_room_does_not_suffice_nothing_is_drawn_and_said() -> None:
    objects = torch.zeros(3, 1, 8, 8, dtype=torch.bool)
    objects[0, 0, 2:, :] = True
    objects[1, 0] = True
    blobs, fits = companion_blobs(sample_keys(0, torch.arange(3)), objects, torch.tensor([9, 1, 64]))
    assert fits.tolist() == [False, False, True]
    assert blobs.sum(dim=(1, 2, 3)).tolist() == [0, 0, 64]
    blobs, fits = companion_blobs(sample_keys(0, torch.arange(3)), objects, torch.tensor([8, 0, 0]))
    assert fits.all()
    assert blobs.sum(dim=(1, 2, 3)).tolist() == [8, 0, 0]


def test_blobs_are_irregular_and_differ_from_key_to_key() -> None:
    empty = torch.zeros(50, 1, 64, 64, dtype=torch.bool)
    blobs, _ = companion_blobs(sample_keys(0, torch.arange(50)), empty, torch.full((50,), 400))
    assert len({blob.numpy().tobytes() for blob in blobs}) == 50
    heights = blobs.any(dim=3).sum(dim=(1, 2)).double()
    widths = blobs.any(dim=2).sum(dim=(1, 2)).double()
    assert (heights / widths).std() > 0.2
    border = blobs.clone()
    border[:, :, 1:-1, 1:-1] = False
    whole = blobs[~border.flatten(1).any(dim=1)]
    assert len(whole) > 10
    assert (400 / enclosing_circles(whole).sum(dim=(1, 2, 3))).mean() < 0.85


def test_a_blob_depends_on_its_key_and_object_alone() -> None:
    objects, keys, pixels = boxes(20, 24, 24), sample_keys(7, torch.arange(20)), torch.arange(20) * 3
    together, _ = companion_blobs(keys, objects, pixels)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    shuffled, _ = companion_blobs(keys[order], objects[order], pixels[order])
    alone = [companion_blobs(keys[i : i + 1], objects[i : i + 1], pixels[i : i + 1]).blobs for i in range(20)]
    assert torch.equal(torch.cat(alone), together)
    assert torch.equal(shuffled, together[order])
