"""Half of the padding where new positions are dropped again: found where it is right, and without a changed bit."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from maskrobust.lm_modules.masking import LayerMasking
from tests.lm_modules.masking.networks import build, draw_images, holes, randomise
from tests.lm_modules.masking.small_networks import Gated, Modern, Shuffled


class Block(nn.Module):
    """A residual block between a stem and a pool, with a layer that may look sideways after the convolution."""

    def __init__(self, then: nn.Module, *, stride: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.conv, self.then = nn.Conv2d(8, 8, 5, stride, 2), then
        self.last = nn.Conv2d(8, 8, 1)
        self.shortcut = nn.Conv2d(8, 8, 1, stride) if stride > 1 else nn.Identity()
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 3)

    def forward(self, images):
        x = self.stem(images)
        x = self.shortcut(x) + self.last(self.then(self.conv(x)))
        return self.fc(self.pool(x).flatten(1))


class Squeezed(nn.Module):
    """A gate made of the mean over all positions."""

    def forward(self, x):
        return x * x.mean((2, 3), keepdim=True).sigmoid()


def pads_in_full(masked):
    reading = replace(masked.read(), dropped=frozenset())
    masked.read = lambda: reading


@pytest.mark.parametrize(
    ("then", "stride", "dropped"),
    [
        (nn.Sequential(nn.BatchNorm2d(8), nn.ReLU()), 1, {"conv"}),
        (nn.Identity(), 2, set()),
        (nn.BatchNorm2d(8, track_running_stats=False), 1, set()),
        (nn.GroupNorm(2, 8), 1, set()),
        (nn.MaxPool2d(3, 1, 1), 1, set()),
        (Squeezed(), 1, set()),
        (nn.Conv2d(8, 8, 3, padding=1), 1, {"then"}),
    ],
    ids=["position by position", "stride", "batch statistics", "group norm", "pool", "gate", "convolution"],
)
@torch.no_grad()
def test_only_convolutions_whose_new_positions_are_dropped_are_found(then, stride, dropped):
    masked, images = LayerMasking(Block(then, stride=stride).eval(), engine="dense"), draw_images(size=32)
    reading = masked.read()
    assert {step.layer for step in reading.program.steps if step.name in reading.dropped} == dropped
    assert not LayerMasking(masked.network, merge="union").read().dropped
    logits = masked(images, holes(32))
    pads_in_full(masked)
    assert torch.equal(masked(images, holes(32)), logits)


@pytest.mark.parametrize("make", [Modern, Gated, Shuffled, lambda: build("basic_resnet"), lambda: build("dilated")])
@torch.no_grad()
def test_half_of_the_padding_changes_no_bit(make):
    torch.manual_seed(0)
    masked, images = LayerMasking(randomise(make()).eval(), engine="dense"), draw_images(size=32)
    logits = masked(images, holes(32))
    pads_in_full(masked)
    assert torch.equal(masked(images, holes(32)), logits)
