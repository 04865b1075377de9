"""What a user is told of a first mistake with layer masking, and what is taken although it may be one."""

import warnings

import pytest
import torch
from torch import nn

from maskrobust import LayerMasking
from maskrobust.errors import InputError
from tests.conftest import refused


class Small(nn.Sequential):
    """A classifier of three channels and four classes."""

    def __init__(self):
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
        super().__init__(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), pool)


def drawn(channels=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, channels, 12, 12, generator=generator).to(dtype)
    return images, torch.rand(2, 1, 12, 12, generator=generator) < 0.6


MISTAKES = {
    "None": (lambda: LayerMasking(None), r"network must be a torch\.nn\.Module, got NoneType"),
    "a name": (lambda: LayerMasking("resnet18"), r"network must be a torch\.nn\.Module, got str"),
    "a class": (lambda: LayerMasking(Small), r"network must be a torch\.nn\.Module, got the class Small"),
    "bytes": (
        lambda: LayerMasking(Small())(torch.zeros(2, 3, 12, 12, dtype=torch.uint8), drawn()[1]),
        r"images must be floating point.*, got torch\.uint8; divide by 255 and normalise\.$",
    ),
    "integers, everything visible": (
        lambda: LayerMasking(Small().eval())(
            torch.zeros(2, 3, 12, 12, dtype=torch.int64), torch.ones(2, 1, 12, 12) > 0
        ),
        r"images must be floating point.*, got torch\.int64; divide by 255 and normalise\.$",
    ),
    "NumPy": (
        lambda: LayerMasking(Small())(drawn()[0].numpy(), drawn()[1]),
        r"images must be a torch tensor, got numpy",
    ),
    "a list": (
        lambda: LayerMasking(Small())(drawn()[0], [[True]]),
        r"visible must be a torch tensor, got builtins\.list",
    ),
    "padding": (
        lambda: LayerMasking(Small(), padding="mirrored"),
        r"padding must be one of mean, mirror, zeros, got 'mirrored'",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_in_one_sentence(name):
    make, sentence = MISTAKES[name]
    with refused((TypeError, InputError), "; ", match=f"^{sentence}"):
        make()


def test_bytes_as_floats_are_warned_of_where_they_are_visible():
    """They are not refused: some networks take such numbers."""
    images, visible = drawn()
    masked = LayerMasking(Small().eval())
    with pytest.warns(UserWarning, match=r"images should be normalised .*, got a pixel of .*; divide bytes by 255"):
        masked(80 * images, visible)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        masked(3 * images, visible)
        masked(torch.where(visible, images, 255.0), visible)
        masked(torch.where(visible, images, torch.nan), visible)
