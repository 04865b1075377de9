"""What holds for every network: hidden pixels do not matter, visible ones are computed as the reference does."""

import copy
import math
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.ops import StochasticDepth

from maskrobust.lm_modules.masking import LayerMasking
from tests.lm_modules.masking.cases import OPTIONS, assert_as_reference
from tests.lm_modules.masking.networks import CLASSES, build, draw_images, holes, randomise
from tests.lm_modules.masking.small_networks import SMALL_NETWORKS

every_network = pytest.mark.parametrize("kind", SMALL_NETWORKS, ids=lambda kind: kind.__name__)
both_modes = pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
SIZE = 32
VISIBLE, IMAGES = holes(SIZE), draw_images(size=SIZE)


@cache
def _built(kind):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return randomise(kind()).eval()


def wrapped(kind, **options):
    """A fresh copy of the same masked network each time, in eval mode."""
    return LayerMasking(copy.deepcopy(_built(kind)), **options)


def logits_of(masked, images, visible):
    """With the same dropout each time."""
    torch.manual_seed(1)
    return masked(images, visible)


@every_network
@both_modes
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_logits_gradients_and_statistics_are_those_of_the_reference(
    kind: type[nn.Module], training: bool, options: dict[str, Any]
) -> None:
    network = copy.deepcopy(_built(kind))
    for module in network.modules():
        if isinstance(module, nn.Dropout | StochasticDepth):
            module.p = 0.0
    assert_as_reference(network, draw_images(4, 24), with_a_whole_image(holes(24)), training=training, **options)


def with_a_whole_image(visible):
    return torch.cat([visible, torch.ones_like(visible[:1])])


@every_network
@both_modes
@pytest.mark.parametrize("padding", ["mean", "mirror"])
def test_what_hidden_pixels_hold_changes_no_bit_and_has_no_gradient(
    kind: type[nn.Module], training: bool, padding: str
) -> None:
    masked = wrapped(kind, padding=padding).train(training)
    expected = logits_of(masked, IMAGES, VISIBLE)
    images = torch.where(VISIBLE, IMAGES, math.nan).requires_grad_()
    logits = logits_of(masked, images, VISIBLE)
    assert torch.equal(logits, expected) and expected.isfinite().all()
    assert torch.equal(logits_of(masked, torch.where(VISIBLE, IMAGES, -1e30), VISIBLE), expected)
    logits.square().sum().backward()
    magnitude = images.grad.abs().sum(dim=1, keepdim=True)
    assert (magnitude[~VISIBLE] == 0).all() and (magnitude[VISIBLE] > 0).any()
    tensors = [*masked.state_dict().values(), *(parameter.grad for parameter in masked.parameters())]
    assert all(tensor.isfinite().all() for tensor in tensors)


@every_network
@torch.no_grad()
def test_a_whole_image_has_the_logits_of_the_plain_network_and_no_image_depends_on_the_others(
    kind: type[nn.Module],
) -> None:
    masked, images = wrapped(kind), draw_images(5, SIZE)
    plain, whole = masked.network(images), torch.ones_like(VISIBLE[:1])
    assert torch.equal(masked(images, whole.expand(5, -1, -1, -1)), plain)
    visible = torch.cat([with_a_whole_image(VISIBLE), ~whole])
    logits = masked(images, visible)
    torch.testing.assert_close(logits[3], plain[3], rtol=1e-4, atol=1e-5)
    assert ((logits[:3] - plain[:3]).abs() > 1e-3).any(dim=1).all()
    exact = copy.deepcopy(masked).double()
    together = exact(images.double(), visible)
    for i in range(5):
        alone = exact(images[i : i + 1].double(), visible[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], rtol=1e-6, atol=1e-6)


@every_network
@both_modes
def test_nothing_visible_is_finite_forward_and_backward(kind: type[nn.Module], training: bool) -> None:
    masked = wrapped(kind).train(training)
    images = torch.full((2, 3, SIZE, SIZE), math.nan, requires_grad=True)
    logits = logits_of(masked, images, torch.zeros(2, 1, SIZE, SIZE, dtype=torch.bool))
    logits.square().sum().backward()
    assert logits.isfinite().all() and torch.equal(images.grad, torch.zeros_like(images))
    assert all(parameter.grad.isfinite().all() for parameter in masked.parameters() if parameter.grad is not None)
    if not training:
        torch.testing.assert_close(logits[0], logits[1])


@torch.no_grad()
def test_all_visible_costs_no_step_of_layer_masking():
    masked, asked = LayerMasking(build("small_resnet")), []
    read = masked.read
    masked.read = lambda: asked.append(True) or read()
    masked(IMAGES, torch.ones_like(VISIBLE))
    assert asked == []
    masked(IMAGES, VISIBLE)
    assert asked == [True]


@pytest.mark.parametrize("name", ["resnext", "dilated"])
@torch.no_grad()
def test_without_a_mask_it_is_the_plain_network_in_training_as_well(name):
    network = build(name).train()
    unmasked, masked = (LayerMasking(copy.deepcopy(network)) for _ in range(2))
    expected = network(IMAGES)
    assert torch.equal(unmasked(IMAGES), expected)
    torch.testing.assert_close(unmasked.state_dict(), dict(network.state_dict()), rtol=0, atol=0)
    torch.testing.assert_close(masked(IMAGES, torch.ones_like(VISIBLE)), expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(masked.state_dict(), dict(network.state_dict()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("visible_pixels", [1, 2])
def test_a_pixel_or_two_in_a_training_batch_are_enough_to_stay_finite(visible_pixels):
    masked = LayerMasking(build("small_resnet")).train()
    visible = torch.zeros(2, 1, SIZE, SIZE, dtype=torch.bool)
    visible[0, 0, 15, 15 : 15 + visible_pixels] = True
    logits = masked(draw_images(2, SIZE), visible)
    logits.square().sum().backward()
    assert logits.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in masked.parameters())


@both_modes
def test_autocast_and_channels_last_are_finite_and_close(training: bool) -> None:
    masked, images = LayerMasking(build("basic_resnet")).train(training), IMAGES.clone().requires_grad_()
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
    assert training or torch.equal(hidden_changed, logits)
    assert images.grad.isfinite().all() and all(parameter.grad.isfinite().all() for parameter in masked.parameters())


@pytest.mark.parametrize(
    ("visible", "error", "given"),
    [
        (VISIBLE.float(), TypeError, "torch.float32"),
        (VISIBLE[:, 0], ValueError, "(3, 32, 32)"),
        (VISIBLE[:2], ValueError, "(2, 1, 32, 32)"),
        (VISIBLE.expand(3, 3, 32, 32), ValueError, "(3, 3, 32, 32)"),
        (VISIBLE[..., :16], ValueError, "(3, 1, 32, 16)"),
        (VISIBLE.to("meta"), ValueError, "meta"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused_before_anything_is_computed(visible, error, given):
    masked, calls = LayerMasking(build("small_resnet")), []
    for module in masked.network.modules():
        module.register_forward_hook(lambda *_: calls.append(1))
    with pytest.raises(error) as refusal:
        masked(IMAGES, visible)
    assert given in str(refusal.value) and calls == []


def test_an_empty_batch_gives_no_logits():
    masked = LayerMasking(build("small_resnet"))
    assert masked(torch.zeros(0, 3, 64, 64), torch.zeros(0, 1, 64, 64, dtype=torch.bool)).shape == (0, CLASSES)
