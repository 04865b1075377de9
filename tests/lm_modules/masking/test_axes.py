"""Signals (B, C, L) and volumes (B, C, D, H, W): networks as people write them, and what they are refused for.

`tests/fuzz` compares random networks of signals and volumes with the reference, and `test_padding.py` their plans.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from maskrobust.augment import pad_batch
from maskrobust.errors import InputError
from maskrobust.lm_modules.masking import LayerMasking, UnsupportedNetworkError
from tests.conftest import refused
from tests.lm_modules.masking.architectures import COLUMNS, check, initialised
from tests.lm_modules.masking.cases import Function, assert_close
from tests.lm_modules.masking.networks import seeded


class Wav2Vec2Encoder(nn.Sequential):
    """The convolutions of wav2vec 2.0, with fewer channels."""

    def __init__(self, width=16):
        layers, channels = [], 1
        for kernel, stride in ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2)):
            layers += [nn.Conv1d(channels, width, kernel, stride, bias=False)]
            layers += [nn.GroupNorm(width, width)] if channels == 1 else []
            layers, channels = [*layers, nn.GELU()], width
        super().__init__(*layers)


class UNet3d(nn.Module):
    """Two steps down and up again, with transposed convolutions and skips."""

    def __init__(self, width=4):
        super().__init__()
        self.first = nn.Sequential(nn.Conv3d(1, width, 3, padding=1), nn.InstanceNorm3d(width, affine=True), nn.PReLU())
        self.down = nn.Sequential(nn.Conv3d(width, 2 * width, 3, 2, 1), nn.BatchNorm3d(2 * width), nn.ReLU())
        self.up = nn.ConvTranspose3d(2 * width, width, 2, 2)
        self.last = nn.Conv3d(2 * width, 2, 1)

    def forward(self, volumes):
        first = self.first(volumes)
        return self.last(torch.cat([first, self.up(self.down(first))], 1))


NETWORKS = {
    "wav2vec 2.0's encoder": (Wav2Vec2Encoder, (1, 1600)),
    "U-Net": (UNet3d, (1, 8, 12, 10)),
}


@pytest.mark.parametrize(("name", "padding"), [(name, ["mean", "mirror"][at % 2]) for at, name in enumerate(NETWORKS)])
def test_network_of_signals_or_volumes_has_all_six_properties(name, padding):
    make, shape = NETWORKS[name]
    network = initialised(seeded(make), (3, *shape))
    assert check(network, shape, padding) == dict.fromkeys(COLUMNS, True)


@torch.no_grad()
def test_each_clip_of_a_padded_batch_is_encoded_as_if_it_were_alone():
    """What wav2vec 2.0's base model does not, whose first norm is over the whole clip."""
    network = initialised(seeded(Wav2Vec2Encoder), (3, 1, 4000))
    clips = [torch.randn(1, length, generator=torch.Generator().manual_seed(length)) for length in (4000, 1700, 3100)]
    canvas, sizes = pad_batch(clips)
    assert sizes.tolist() == [[4000], [1700], [3100]]
    alone = [network(clip[None]) for clip in clips]
    deviation = torch.cat([each.flatten() for each in alone]).std()
    beyond = torch.arange(4000) >= sizes[:, :, None]
    together = LayerMasking(network).each(canvas.masked_fill(beyond, math.nan), sizes=sizes)
    padded = [each[None, :, : own.shape[2]] for each, own in zip(network(canvas), alone, strict=True)]
    errors = [
        max(float((one - own).abs().max() / deviation) for one, own in zip(given, alone, strict=True))
        for given in (together, padded)
    ]
    assert errors[0] < 1e-5 and errors[1] > 0.1


@pytest.mark.parametrize("size", [(9,), (5, 6, 7)], ids=["signals", "volumes"])
def test_coverage_plan_and_maps_are_those_of_windows_along_each_axis(size):
    axes = len(size)
    network = getattr(nn, f"Conv{axes}d")(1, 2, 3, padding=1)
    masked, images = LayerMasking(network), torch.ones(1, 1, *size)
    visible = torch.ones(1, 1, *size, dtype=torch.bool)
    visible[(0, 0, *(slice(None, length // 2) for length in size))] = False
    ones = torch.ones(1, 1, *[3] * axes)
    convolve = getattr(F, f"conv{axes}d")
    expected = convolve(visible.float(), ones, padding=1) / convolve(images, ones, padding=1)
    assert_close(masked.coverage(visible), expected, 1e-6)
    (row,) = masked.plan(images, visible)
    assert row.size == size and row.rings == 2 and row.visible_fraction == (expected > 0).float().mean()
    assert " x ".join(map(str, size)) in str(masked.plan(images, visible))
    found = masked.maps(images, visible)
    assert torch.equal(found.visible, expected > 0) and found.sizes.tolist() == [[*size]]


@pytest.mark.parametrize(
    ("axes", "shape", "named"),
    [
        (1, (3, 50), r"\(B, C, L\), got shape \(3, 50\); add the batch dimension"),
        (2, (3, 20, 20), r"\(B, C, H, W\), got shape \(3, 20, 20\); add the batch dimension"),
        (3, (3, 8, 20, 20), r"\(B, C, D, H, W\), got shape \(3, 8, 20, 20\); add the batch dimension"),
        (2, (1, 3, 8, 20, 20), r"\(B, C, H, W\), got shape \(1, 3, 8, 20, 20\); put frames and slices into the batch"),
    ],
)
def test_images_with_other_axes_than_the_network_takes_are_refused(axes, shape, named):
    masked = LayerMasking(getattr(nn, f"Conv{axes}d")(3, 4, 3))
    with refused(InputError, match=f"images must be {named}"):
        masked(torch.zeros(shape), torch.ones(shape[0], 1, *shape[2:], dtype=torch.bool))


@pytest.mark.parametrize(
    ("compute", "named"),
    [
        (lambda x: x.mean((1, 2)), "reduces over axes of positions, or over the channels"),
        (lambda x: nn.LSTM(4, 4)(x[:, :, 0, 0].permute(2, 0, 1))[0], r"no rule for the operation torch\.lstm"),
    ],
    ids=["mean over channels and depth", "recurrent"],
)
def test_what_volumes_are_not_followed_through_is_refused_when_wrapped(compute, named):
    network = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), Function(compute))
    with refused(UnsupportedNetworkError, match=named):
        LayerMasking(network)


def test_a_volume_of_one_layer_is_enlarged_as_its_plane():
    plane = LayerMasking(nn.Upsample(scale_factor=2, mode="bilinear"))
    volume = LayerMasking(nn.Upsample(scale_factor=(1, 2, 2), mode="trilinear"))
    images, visible = torch.randn(2, 3, 7, 5), torch.rand(2, 1, 7, 5) > 0.5
    assert_close(volume(images[:, :, None], visible[:, :, None])[:, :, 0], plane(images, visible), 1e-6)


def test_sizes_of_another_number_of_axes_are_refused():
    masked = LayerMasking(nn.Conv1d(1, 2, 3))
    with refused(InputError, match=r"size of each of 2 images, shape \(2, 1\), got shape \(2, 2\)"):
        masked(torch.zeros(2, 1, 9), sizes=torch.ones(2, 2, dtype=torch.int64))
    with refused(InputError, match="must lie between 1 and the canvas, 9, got 12 for image 1"):
        masked(torch.zeros(2, 1, 9), sizes=torch.tensor([[3], [12]]))
