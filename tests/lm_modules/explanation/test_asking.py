"""What asking about one image costs beside the forward passes: no copy of it, and no wait for the device."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from maskrobust import Segments, ask, draw_independent

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
