"""Arguments of operations are bound by their signature: no axis is guessed from sizes that happen to fit."""

import pytest
import torch
from torch import Tensor, nn

from maskrobust import LayerMasking, UnsupportedNetworkError

SIDE = 8
"""Of the images; as many as there are channels, so that any axis fits any other."""


class Ends(nn.Module):
    """A convolution with 8 channels on 8 x 8 positions, and one operation after it."""

    def __init__(self, operation):
        super().__init__()
        self.conv, self.operation = nn.Conv2d(3, SIDE, 3, padding=1), operation

    def forward(self, images):
        return self.operation(self.conv(images))


def drawn():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(SIDE, 3, SIDE, SIDE, generator=generator)  # as many as everything else
    return images, torch.rand(SIDE, 1, SIDE, SIDE, generator=generator) < 0.6


POSITIONS = {
    "norm(1, 2)": lambda x: x.norm(1, 2),
    "norm(1, 3)": lambda x: x.norm(1, 3),
    "norm(1, -1, True)": lambda x: x.norm(1, -1, True),
    "norm(p=2, dim=2)": lambda x: x.norm(p=2, dim=2),
    "torch.norm(x, 1, 2)": lambda x: torch.norm(x, 1, 2),
    "sum(2)": lambda x: x.sum(2),
    "sum((1, 2))": lambda x: x.sum((1, 2)),
    "unbind(2)": lambda x: x.unbind(2)[0],
    "unbind(-1)": lambda x: torch.unbind(x, -1)[0],
    "unbind()": lambda x: x.unbind()[0],
    "tensor_split(1, 0)": lambda x: x.tensor_split(1, 0)[0],
}
"""Operations over an axis of positions or of images."""

CHANNELS = {
    "norm(2, 1)": lambda x: x.norm(2, 1),
    "norm(2, 1, True)": lambda x: x.norm(2, 1, True),
    "norm(1, (1,))": lambda x: x.norm(1, (1,)),
    "torch.norm(x, 2, 1)": lambda x: torch.norm(x, 2, 1),
    "norm(p=1, dim=1, keepdim=True)": lambda x: x.norm(p=1, dim=1, keepdim=True),
    "sum(1, True)": lambda x: x.sum(1, True),
    "mean(-3)": lambda x: x.mean(-3),
    "unbind(1)": lambda x: x.unbind(1)[5],
    "chunk(2, 1)": lambda x: x.chunk(2, 1)[1],
    "split([3, 5], 1)": lambda x: x.split([3, 5], 1)[1],
    "chunk(chunks=4, dim=-3)": lambda x: x.chunk(chunks=4, dim=-3)[3],
}
"""Operations over the channels: maps."""

GLOBAL = {
    "norm(1, (2, 3))": lambda x: x.norm(1, (2, 3)),
    "norm(2, (-1, -2), True)": lambda x: x.norm(2, (-1, -2), True),
    "norm(dim=(2, 3))": lambda x: x.norm(dim=(2, 3)),
    "mean((2, 3), True)": lambda x: x.mean((2, 3), True),
    "sum([2, 3])": lambda x: x.sum([2, 3]),
}
"""Operations over all positions: vectors."""


@pytest.mark.parametrize("name", POSITIONS)
def test_an_axis_of_positions_or_images_is_refused_whatever_the_sizes(name):
    images, visible = drawn()
    with pytest.raises((UnsupportedNetworkError, NotImplementedError), match="layer masking"):
        LayerMasking(Ends(POSITIONS[name]))(images, visible)


@pytest.mark.parametrize("name", CHANNELS)
def test_a_reduction_over_channels_is_that_of_each_visible_position(name):
    network = Ends(nn.Identity()).eval()
    images, visible = drawn()
    with torch.no_grad():
        features: Tensor = LayerMasking(network)(images, visible)
        again = Ends(CHANNELS[name]).eval()
        again.conv = network.conv
        found: Tensor = LayerMasking(again)(images, visible)
    torch.testing.assert_close(found, CHANNELS[name](features))


@pytest.mark.parametrize("name", GLOBAL)
def test_a_norm_or_a_sum_over_positions_counts_hidden_ones_as_nothing_and_a_mean_leaves_them_out(name):
    network, again = Ends(nn.Identity()).eval(), Ends(GLOBAL[name]).eval()
    again.conv = network.conv
    images, visible = drawn()
    with torch.no_grad():
        maps: Tensor = LayerMasking(network)(images, visible)  # 0 where hidden
        found = LayerMasking(again)(images, visible)
        conv_visible = nn.functional.max_pool2d(visible.float(), 3, 1, 1)
        share = conv_visible.mean((2, 3), keepdim=True) if "mean" in name else 1.0
    expected = GLOBAL[name](maps)
    torch.testing.assert_close(found, expected / share if "mean" in name else expected)
