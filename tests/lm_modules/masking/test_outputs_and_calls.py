"""What a network may return, and how a masked one may be called, as users of torch expect it."""

from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from maskrobust import LayerMasking
from tests.lm_modules.masking.networks import seeded


class Answers(NamedTuple):
    logits: Tensor
    maps: Tensor


@dataclass
class Record:
    logits: Tensor
    maps: Tensor


class Network(nn.Module):
    """A classifier with a parameter of its own, which returns logits and maps as it is told."""

    def __init__(self, returns):
        super().__init__()
        self.stem, self.returns = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()), returns
        self.head, self.scale = nn.Linear(8, 4), nn.Parameter(torch.tensor(2.0))

    def forward(self, images):
        maps = self.stem(images) * self.scale
        return self.returns(self.head(maps.mean((2, 3))), maps)


def drawn():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 10, 10, generator=generator)
    return images, torch.rand(2, 1, 10, 10, generator=generator) < 0.6


@pytest.mark.parametrize("kind", [Answers, Record])
def test_a_network_returns_what_it_returns_alone(kind):
    network = seeded(lambda: Network(kind).eval())
    images, visible = drawn()
    with torch.no_grad():
        found = LayerMasking(network)(images, visible)
        network.returns = lambda *parts: parts
        logits, maps = LayerMasking(network)(images, visible)
    assert type(found) is kind
    torch.testing.assert_close((found.logits, found.maps), (logits, maps))
    network.returns = kind
    shown = LayerMasking(network).coverage(visible)
    assert type(shown) is kind
    assert shown.maps.shape == (2, 1, 10, 10) and ((shown.maps == 0) == (maps == 0).all(1, keepdim=True)).all()


@pytest.mark.parametrize("training", [False, True])
def test_a_masked_network_is_called_with_the_tensors_of_its_state_dict(training):
    masked = LayerMasking(seeded(lambda: Network(lambda *parts: parts))).train(training)
    images, visible = drawn()
    expected = masked(images, visible)[0]
    state = {name: tensor.clone() for name, tensor in masked.state_dict().items()}
    torch.testing.assert_close(functional_call(masked, state, (images, visible))[0], expected)
    halved = functional_call(masked, {**state, "head.weight": state["head.weight"] / 2}, (images, visible))[0]
    assert not torch.allclose(halved, expected)
    assert {name for name, _ in masked.named_parameters()} <= masked.state_dict().keys()

    def loss(parameters, state):  # torch.func lets a batch norm in training mode change what it is given alone
        return functional_call(masked, {**state, **parameters}, (images, visible))[0].square().sum()

    parameters = {"scale": state["scale"], "head.bias": state["head.bias"]}
    gradients = torch.func.grad(loss)(parameters, state)
    masked(images, visible)[0].square().sum().backward()
    for name, parameter in masked.named_parameters():
        if name in gradients:
            torch.testing.assert_close(gradients[name], parameter.grad)


class WithCoordinates(nn.Module):
    """A network that lays two channels of its own beside the images, as CoordConv does."""

    def __init__(self):
        super().__init__()
        self.conv, self.own = nn.Conv2d(5, 4, 3, padding=1), nn.Buffer(torch.randn(1, 2, 10, 10))

    def forward(self, images):
        own = self.own.expand(images.shape[0], -1, -1, -1)
        return self.conv(torch.cat([images, own], dim=1))


def test_coverage_of_a_network_that_concatenates_channels_of_its_own_needs_no_number_of_channels():
    _, visible = drawn()
    masked = LayerMasking(WithCoordinates().eval())
    assert masked(drawn()[0], visible).shape == (2, 4, 10, 10)
    torch.testing.assert_close(masked.coverage(visible), masked.coverage(visible, channels=3))


def test_a_mode_that_is_set_module_by_module_is_the_networks_too():
    """As Lightning sets modes back after a validation; the module around the network is no module of its own."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    masked = LayerMasking(network.eval())
    for training in (True, False):
        for module in masked.modules():
            module.training = training
        assert [each.training for each in (masked, network, *network)] == [training] * 4
        assert masked.train(not training).training is network[1].training is not training
