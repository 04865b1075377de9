"""Networks that take means of rows and of columns; and how far wrapping reads a network."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from maskrobust.lm_modules.masking import LayerMasking
from maskrobust.lm_modules.masking.visible_map import MaskingOptions
from maskrobust.lm_modules.masking.wrapping import count_steps
from tests.lm_modules.masking.networks import draw_images, holes, randomise, seeded
from tests.lm_modules.masking.small_networks import SMALL_NETWORKS

SIZE = 24


def stage(*channels):
    """A convolution, its norm and its activation."""
    return nn.Sequential(nn.Conv2d(*channels, 3, padding=1), nn.BatchNorm2d(channels[-1]), nn.ReLU())


class Network(nn.Module):
    """A stem, a stage and a head."""

    def __init__(self):
        super().__init__()
        self.stem, self.stage, self.head = stage(3, 8), stage(8, 8), nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.features(self.stem(x)).mean((2, 3)))


class Strips(Network):
    """Strip pooling (Hou et al., 2020, arXiv 2003.13328): sums of means over rows and over columns gate the map."""

    def features(self, x):
        rows, columns = F.adaptive_avg_pool2d(x, (None, 1)), F.adaptive_avg_pool2d(x, (1, None))
        return x * torch.sigmoid(rows.expand_as(x) + columns.expand_as(x))


class Coordinates(Network):
    """Coordinate attention (Hou et al., 2021, arXiv 2103.02907): both means as one strip, then apart again."""

    def features(self, x):
        height, width = x.shape[2:]
        rows = F.adaptive_avg_pool2d(x, (None, 1))
        columns = F.adaptive_avg_pool2d(x, (1, None)).permute(0, 1, 3, 2)
        strip = F.relu(F.conv2d(torch.cat([rows, columns], 2), self.head.weight.T[:, :, None, None].repeat(1, 2, 1, 1)))
        rows, columns = torch.split(strip, [height, width], dim=2)
        return x * torch.sigmoid(rows) * torch.sigmoid(columns.permute(0, 1, 3, 2))


def means_along(x, visible, axis):
    """Of visible positions, and where there are any."""
    counts = visible.sum(axis, keepdim=True)
    return (x * visible).sum(axis, keepdim=True) / counts.clamp(min=1), counts > 0


def strips_by_hand(x, visible, network):
    rows, of_rows = means_along(x, visible, 3)
    columns, of_columns = means_along(x, visible, 2)
    if isinstance(network, Coordinates):
        weight = network.head.weight.T[:, :, None, None].repeat(1, 2, 1, 1)
        rows, columns = (F.relu(F.conv2d(each, weight)) for each in (rows, columns))
        return x * torch.sigmoid(rows) * torch.sigmoid(columns), visible & of_rows & of_columns
    return x * torch.sigmoid(rows + columns), visible & of_rows & of_columns


@pytest.mark.parametrize("kind", [Strips, Coordinates])
@torch.no_grad()
def test_means_of_rows_and_columns_are_those_of_visible_positions(kind):
    network = randomise(seeded(kind)).double().eval()
    images, visible = draw_images(size=SIZE).double(), holes(SIZE)
    stem = LayerMasking(network).output_of("stem", images, visible)
    gated, shown = strips_by_hand(stem.as_plain(), stem.visible.positions, network)
    expected = network.head((gated * shown).sum((2, 3)) / shown.sum((2, 3)).clamp(min=1))
    torch.testing.assert_close(LayerMasking(network)(images, visible), expected)


@pytest.mark.parametrize("make", [Strips, Coordinates, *SMALL_NETWORKS])
def test_the_pass_at_wrapping_reaches_the_end_in_both_modes(make):
    """Where it does not, nothing would be refused before the first image."""
    with torch.device("meta"):
        network = make()
    for training in (False, True):
        assert count_steps(network.train(training), MaskingOptions()) > 3
