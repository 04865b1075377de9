"""Canvases of images of several sizes."""

import pytest
import torch
from torch.utils.data import DataLoader

from maskrobust import pad_batch, pad_collate
from maskrobust.errors import InputError

IMAGES = [torch.rand(3, 4, 7), torch.rand(3, 6, 5), torch.rand(3, 1, 1)]


@pytest.mark.parametrize("sizes", [[[5], [3]], [[4, 7], [6, 5], [1, 1]], [[2, 5, 3], [4, 1, 3]]])
def test_signals_images_and_volumes_lie_at_the_beginning_of_their_canvas_with_zeros_beyond(sizes):
    given = [torch.rand(2, *size) for size in sizes]
    canvas, found = pad_batch(given)
    assert found.tolist() == sizes and found.dtype == torch.int64
    assert canvas.shape == (len(sizes), 2, *map(max, zip(*sizes, strict=True)))
    for on_canvas, each in zip(canvas, given, strict=True):
        place = (slice(None), *map(slice, each.shape[1:]))
        assert torch.equal(on_canvas[place], each) and on_canvas.count_nonzero() == each.count_nonzero()
    with pytest.raises(InputError, match=r"images must be \(C, (L|H, W|D, H, W)\) with 2 channels"):
        pad_batch([given[0], torch.rand(3, *sizes[0])])


def test_a_loader_gives_canvas_sizes_and_the_other_parts_of_samples():
    samples = [(image, label, {"id": label}) for label, image in enumerate(IMAGES)]
    canvas, sizes, labels, more = next(iter(DataLoader(samples, batch_size=3, collate_fn=pad_collate)))
    assert torch.equal(canvas, pad_batch(IMAGES)[0]) and torch.equal(sizes, pad_batch(IMAGES)[1])
    assert labels.tolist() == more["id"].tolist() == [0, 1, 2]


OTHERS = torch.rand(1, 4, 4), torch.rand(1, 3, 4, 4), torch.zeros(3, 4, 4, dtype=torch.uint8)


@pytest.mark.parametrize("images", [[], [torch.tensor(1.0)], *([IMAGES[0], each] for each in OTHERS)])
def test_what_is_no_list_of_images_is_refused(images):
    with pytest.raises(InputError, match=r"pad_batch needs|images must be"):
        pad_batch(images)


@pytest.mark.parametrize("images", [[IMAGES[0].numpy()], [IMAGES[0], IMAGES[0].numpy()]])
def test_arrays_are_refused_by_their_type(images):
    with pytest.raises(TypeError, match=r"each of images must be a torch tensor, got numpy.ndarray; convert it"):
        pad_batch(images)
