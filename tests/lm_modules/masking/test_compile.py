"""`torch.compile` reads the whole masked network as one graph and computes the same."""

import copy
import math

import pytest
import torch
from torch import nn

from maskrobust.lm_modules.masking import LayerMasking
from maskrobust.lm_modules.networks.architectures import SmallResNet
from tests.lm_modules.masking.architectures import build
from tests.lm_modules.masking.networks import draw_images, holes, randomise

pytestmark = pytest.mark.usefixtures("fresh_compiler")


@pytest.fixture
def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return randomise(SmallResNet(3, width=16))


@torch.no_grad()
def test_the_compiled_network_equals_the_eager_one(network: nn.Module) -> None:
    masked = LayerMasking(network).eval()
    compiled = torch.compile(masked, fullgraph=True, backend="eager")
    for visible in (holes(32), holes(32).flip(2), torch.ones_like(holes(32)), torch.zeros_like(holes(32))):
        images = torch.where(visible, draw_images(size=32), math.nan)
        torch.testing.assert_close(compiled(images, visible), masked(images, visible), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", ["timm/test_efficientnet", "timm/test_convnext"])
@torch.no_grad()
def test_networks_of_every_kind_compile_without_a_graph_break(architecture: str) -> None:
    masked = LayerMasking(build(architecture).double())  # random weights make rounding errors of float32 grow
    compiled = torch.compile(masked, fullgraph=True, backend="eager")
    images, visible = draw_images(size=64)[:1].double(), holes(64)[:1]
    expected = masked(images, visible)
    assert (compiled(images, visible) - expected).abs().max() < 1e-9 * expected.abs().max()


@torch.no_grad()
def test_the_compiled_training_pass_updates_the_same_statistics(network: nn.Module) -> None:
    masked = LayerMasking(network, merge="union", detach_padding=False).train()
    twin, images, visible = copy.deepcopy(masked), draw_images(size=32), holes(32)
    compiled = torch.compile(masked, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(images, visible), twin(images, visible), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(masked.state_dict(), twin.state_dict(), rtol=1e-5, atol=1e-5)


def test_the_compiled_backward_pass_equals_the_eager_one(network: nn.Module) -> None:
    masked = LayerMasking(network).train()
    twin, visible = copy.deepcopy(masked), holes(32)
    compiled = torch.compile(masked, fullgraph=True, backend="aot_eager")
    gradients = []
    for either in (compiled, twin):
        images = draw_images(size=32).requires_grad_()
        either(images, visible).square().sum().backward()
        gradients.append([images.grad, *(parameter.grad for parameter in either.parameters())])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)
    assert (gradients[0][0][~visible.expand(-1, 3, -1, -1)] == 0).all()
