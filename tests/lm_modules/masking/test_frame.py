"""Zeros that a network puts around its images: neither visible nor hidden, and never filled.

What reads nothing but them and visible positions is what the network alone computes, wherever else something is hidden.
"""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskrobust.lm_modules.masking import LayerMasking
from tests.lm_modules.masking.cases import OPTIONS, Function, assert_as_reference, draw_features
from tests.lm_modules.masking.networks import randomise

SIDE = 8


def convolution(size: int, **settings: object) -> nn.Conv2d:
    return nn.Conv2d(4, 4, size, **settings)


def norm() -> nn.Module:
    return randomise(nn.BatchNorm2d(4))


def beside_zeros(x: Tensor) -> Tensor:
    """Zeros by `torch.cat`, as a causal network may put them."""
    return torch.cat([x.new_zeros(*x.shape[:2], 3, x.shape[3]), x], dim=2)


PADDED = {
    "pad, batch norm": [nn.ZeroPad2d(1), norm(), convolution(3)],
    "pad, activation": [nn.ZeroPad2d((2, 0, 1, 3)), nn.Sigmoid(), convolution(3, padding=1)],
    "pad, in place": [nn.ZeroPad2d(2), Function(lambda x: x.add_(1.5)), convolution(5, stride=2)],
    "1 x 1 with padding": [convolution(1, padding=1), nn.ReLU(), convolution(3, padding=1)],
    "windows in the padding": [convolution(2, padding=3), norm(), convolution(3, stride=2, padding=1)],
    "windows between": [convolution(2, padding=5, dilation=10), nn.Tanh(), nn.AvgPool2d(3, 1, 1)],
    "transposed": [nn.ConvTranspose2d(4, 4, 2, 4, output_padding=2), nn.ReLU(), convolution(3, padding=1)],
    "walls": [nn.ConvTranspose2d(4, 4, 2, 3, output_padding=1), convolution(3, padding=1)],
    "pad, pool": [nn.ZeroPad2d(3), norm(), nn.MaxPool2d(3, 2, 1), convolution(1)],
    "pad, bins": [nn.ZeroPad2d(4), norm(), nn.AdaptiveAvgPool2d(5), convolution(1)],
    "pad, upsampling": [nn.ZeroPad2d(2), norm(), nn.Upsample(scale_factor=2, mode="bilinear"), convolution(3)],
    "pad, mirror": [nn.ZeroPad2d(1), norm(), nn.ReflectionPad2d(3), convolution(3)],
    "pad, crop": [nn.ZeroPad2d(3), norm(), nn.ZeroPad2d(-2), convolution(3)],
    "pad, blocks": [nn.ZeroPad2d(2), norm(), nn.PixelUnshuffle(2), nn.Conv2d(16, 4, 3)],
    "pad, part, turn": [
        nn.ZeroPad2d(2), norm(), Function(lambda x: x[:, :, 1:].transpose(2, 3).chunk(2, 3)[0]), convolution(3),
    ],
    "pad, channels last": [
        nn.ZeroPad2d(1), Function(lambda x, own: own(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), nn.Linear(4, 4)),
        convolution(3),
    ],
    "zeros beside": [Function(beside_zeros), norm(), convolution(3, padding=1)],
    "sum with padded": [
        Function(lambda x, one, other: one(F.pad(x, [1] * 4)) + other(x), norm(), convolution(3, padding=2)), norm(),
        convolution(3),
    ],
    "beside padded": [
        Function(lambda x, one, other: torch.cat([one(F.pad(x, [1] * 4))[:, :2], other(x)[:, 2:]], 1), norm(),
                 convolution(3, padding=2)),
        norm(), convolution(3),
    ],
}  # fmt: skip


def network_of(layers: list[nn.Module]) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = copy.deepcopy(nn.Sequential(convolution(1), *layers))
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                module.reset_parameters()
    return network.double().eval()


def with_holes(side: int = SIDE) -> Tensor:
    """(4, 1, side, side): one hidden pixel, a hidden corner, noise, nothing visible."""
    visible = torch.ones(4, 1, side, side, dtype=torch.bool)
    visible[0, :, side // 2, side // 2] = False
    visible[1, :, :3, :4] = False
    visible[2] = torch.rand(1, side, side, generator=torch.Generator().manual_seed(0)) < 0.4
    visible[3] = False
    return visible


def unread(network: nn.Module, images: Tensor, visible: Tensor) -> Tensor:
    """Where what the plain network returns does not change, whatever hidden pixels hold."""
    plain, found = network(images), True
    for seed in range(8):
        others = 1e3 * draw_features(*images.shape, seed=seed + 1)
        found = found & (network(torch.where(visible, images, others)) == plain)
    return found


@pytest.mark.parametrize("layers", PADDED.values(), ids=PADDED)
def test_what_reads_nothing_hidden_is_the_plain_network(layers):
    network, images, visible = network_of(layers), draw_features(1, 4, SIDE, SIDE), with_holes()[:1]
    masked = LayerMasking(network)
    with torch.no_grad():
        given, plain = masked(torch.where(visible, images, math.nan), visible), network(images)
        elsewhere = unread(network, images, visible)
    assert elsewhere.float().mean() > 0.3
    torch.testing.assert_close(given[elsewhere], plain[elsewhere], rtol=1e-12, atol=1e-12)
    assert (masked.coverage(visible, channels=4).expand_as(plain)[elsewhere] == 1).all()


@pytest.mark.parametrize(("training", "options"), [(False, OPTIONS[0]), (True, OPTIONS[1])], ids=["eval", "train"])
@pytest.mark.parametrize("layers", PADDED.values(), ids=PADDED)
def test_it_is_computed_as_the_reference_does(layers, options, training, monkeypatch):
    """With the statistics of batch norm, which count what surrounds an image, as those of the plain network do."""
    network, images = network_of(layers), draw_features(4, 4, SIDE, SIDE)
    assert_as_reference(network, images, with_holes(), training=training, **options)
    monkeypatch.setattr("maskrobust.lm_modules.masking.visible_map.can_inspect", lambda _: False)  # as on accelerators
    assert_as_reference(network, images, with_holes(), training=not training, **options)


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("name", ["pad, batch norm", "windows in the padding"])
def test_compiled_code_computes_it_alike(name):
    masked = LayerMasking(network_of(PADDED[name])).train()
    twin, images, visible = copy.deepcopy(masked), draw_features(4, 4, SIDE, SIDE), with_holes()
    outputs = [each(images, visible) for each in (torch.compile(masked, fullgraph=True, backend="aot_eager"), twin)]
    sum(each.square().sum() for each in outputs).backward()
    gradients = [[parameter.grad for parameter in each.parameters()] for each in (masked, twin)]
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*gradients)
