"""What asking about one image costs beside the forward passes: no copy of it, and no wait for the device."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from maskrobust import Segments, ask, draw_independent, visibility_forward

IMAGE = torch.rand(3, 16, 12, generator=torch.Generator().manual_seed(0))
SEGMENTS = Segments.patches(IMAGE[None], 8)
READS_A_VALUE = {"aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::equal"}


class Reads(TorchDispatchMode):
    """Counts operations that a device would have to finish its work for."""

    count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.count += operation._schema.name in READS_A_VALUE
        return operation(*args, **(kwargs or {}))


def test_the_loop_reads_no_value_back():
    queries = SEGMENTS.queries(0, draw_independent(0, 40, 4))
    with Reads() as reads:
        ask(lambda _images, visible, _keys: visible.flatten(1).float(), IMAGE, queries, batch_size=8)
    assert reads.count == 0
    with Reads() as reads:
        ask(lambda _images, visible, _keys: visible.flatten(1) * visible.sum().item(), IMAGE, queries, batch_size=8)
    assert reads.count == 5


def test_batches_are_channels_last_views_of_one_image():
    given = []

    def predict(images, visible, keys):
        given.append(images)
        return visible.flatten(1).float()

    ask(predict, IMAGE, SEGMENTS.queries(0, draw_independent(0, 40, 4)), batch_size=16)
    visibility_forward(predict, IMAGE)(torch.ones(5, 1, 16, 12))
    assert [len(images) for images in given] == [16, 16, 8, 5]
    assert {images.stride() for images in given} == {(0, 1, 36, 3)}
    assert len({images.data_ptr() for images in given[:3]}) == 1
    assert all(torch.equal(images, IMAGE.expand_as(images)) for images in given)
