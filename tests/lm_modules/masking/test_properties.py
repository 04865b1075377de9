"""What holds for every network: hidden pixels do not matter, visible ones are computed as the reference does."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from maskrobust.lm_modules.masking import LayerMasking, Masked
from tests.lm_modules.masking.cases import OPTIONS, Function, assert_as_reference
from tests.lm_modules.masking.networks import CLASSES, build, draw_images, holes
from tests.lm_modules.masking.small_networks import SMALL_NETWORKS

SIZE = 32
VISIBLE, IMAGES = holes(SIZE), draw_images(size=SIZE)


@pytest.mark.parametrize("kind", SMALL_NETWORKS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(("training", "options"), [(False, OPTIONS[0]), (True, OPTIONS[1])], ids=["eval", "train"])
def test_logits_gradients_and_statistics_are_those_of_the_reference(kind, training, options):
    network = build(kind)
    for module in network.modules():
        if isinstance(module, nn.Dropout | StochasticDepth):
            module.p = 0.0
    some = holes(24)
    visible = torch.cat([some, torch.ones_like(some[:1]), torch.zeros_like(some[:1])])
    assert_as_reference(network, draw_images(5, 24), visible, training=training, **options)


@pytest.mark.parametrize("padding", ["mean", "mirror"])
@pytest.mark.parametrize(
    "maximum", [lambda x: x.amax(1, keepdim=True), lambda x: x.norm(math.inf, 1, True)], ids=["amax", "norm"]
)
def test_padding_does_not_change_the_maximum_that_its_gradient_compares_with(maximum, padding):
    """It divides by how many channels equal the maximum."""
    network = nn.Sequential(nn.Conv2d(3, 4, 1), Function(maximum), nn.Conv2d(1, 2, 3, padding=1))
    assert_as_reference(network, IMAGES, VISIBLE, padding=padding)


@torch.no_grad()
def test_all_visible_costs_no_step_of_layer_masking():
    masked, seen = LayerMasking(build("small_resnet")), []
    masked.network.layer1.register_forward_hook(lambda _module, _args, output: seen.append(type(output)))
    masked(IMAGES, torch.ones_like(VISIBLE))
    masked(IMAGES, VISIBLE)
    assert seen == [Tensor, Masked]


def test_autocast_and_channels_last_are_finite_and_close():
    masked, images = LayerMasking(build("basic_resnet")), IMAGES.clone().requires_grad_()
    exact = copy.deepcopy(masked)(images, VISIBLE)
    last = copy.deepcopy(masked).to(memory_format=torch.channels_last)
    given = images.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last(given, VISIBLE), exact, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden_changed = copy.deepcopy(masked)(torch.where(VISIBLE, images, math.nan), VISIBLE)
        logits = masked(images, VISIBLE)
    logits.float().square().sum().backward()
    assert logits.dtype == torch.bfloat16
    assert ((logits.float() - exact).norm() / exact.norm()).item() < 0.1
    assert torch.equal(hidden_changed, logits)
    assert images.grad.isfinite().all() and all(parameter.grad.isfinite().all() for parameter in masked.parameters())


def test_an_empty_batch_gives_no_logits():
    masked = LayerMasking(build("small_resnet"))
    images, visible = torch.zeros(0, 3, 64, 64), torch.zeros(0, 1, 64, 64, dtype=torch.bool)
    sizes = torch.zeros(0, 2, dtype=torch.int64)
    for options in ({"visible": visible}, {"sizes": sizes}, {"visible": visible, "sizes": sizes}):
        assert masked(images, **options).shape == (0, CLASSES)
    assert masked.each(images, visible, sizes=sizes) == []
