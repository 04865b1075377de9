"""The contract of `LayerMasking`, on several CNNs."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from maskrobust.lm_modules.masking import LayerMasking
from tests.lm_modules.masking.networks import CLASSES, build, draw_images, holes

every_network = pytest.mark.parametrize("name", ["resnext", "dilated", "small_resnet"])
both_modes = pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
VISIBLE = holes()


def state(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def assert_same_state(first: nn.Module, second: nn.Module) -> None:
    assert all(torch.equal(tensor, second.state_dict()[name]) for name, tensor in first.state_dict().items())


@torch.no_grad()
def test_all_visible_costs_no_step_of_layer_masking() -> None:
    masked, asked = LayerMasking(build("small_resnet")), []
    read = masked.read
    masked.read = lambda: asked.append(True) or read()
    masked(draw_images(), torch.ones_like(VISIBLE))
    assert asked == []
    masked(draw_images(), VISIBLE)
    assert asked == [True]


@every_network
@torch.no_grad()
def test_all_visible_in_training_is_the_plain_network_but_for_rounding(name: str) -> None:
    network, images = build(name).train(), draw_images()
    masked = LayerMasking(copy.deepcopy(network))
    logits = masked(images, torch.ones_like(VISIBLE))
    torch.testing.assert_close(logits, network(images), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(masked.state_dict(), dict(network.state_dict()), rtol=1e-4, atol=1e-4)


@every_network
@both_modes
def test_without_a_mask_it_is_exactly_the_plain_network(name: str, training: bool) -> None:
    network, images = build(name).train(training), draw_images()
    masked = LayerMasking(copy.deepcopy(network))
    assert torch.equal(masked(images), network(images))
    assert_same_state(network, masked.network)


@pytest.mark.parametrize("visible_pixels", [1, 2])
def test_a_pixel_or_two_in_a_training_batch_are_enough_to_stay_finite(visible_pixels: int) -> None:
    masked = LayerMasking(build("small_resnet")).train()
    visible = torch.zeros(2, 1, 64, 64, dtype=torch.bool)
    visible[0, 0, 31, 31 : 31 + visible_pixels] = True
    logits = masked(draw_images(2), visible)
    logits.square().sum().backward()
    assert logits.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in masked.parameters())


@torch.no_grad()
def test_channels_last_and_contiguous_agree() -> None:
    network = build("basic_resnet")
    contiguous = LayerMasking(network)(draw_images(), VISIBLE)
    network.to(memory_format=torch.channels_last)
    channels_last = LayerMasking(network)(draw_images().contiguous(memory_format=torch.channels_last), VISIBLE)
    torch.testing.assert_close(channels_last, contiguous, rtol=1e-5, atol=1e-5)


@both_modes
def test_autocast_is_finite_and_close(training: bool) -> None:
    masked, images = LayerMasking(build("basic_resnet")).train(training), draw_images().requires_grad_()
    exact = copy.deepcopy(masked)(images, VISIBLE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = masked(images, VISIBLE)
        hidden_changed = copy.deepcopy(masked)(torch.where(VISIBLE, images, math.nan), VISIBLE)
    logits.float().square().sum().backward()
    assert logits.dtype == torch.bfloat16
    assert ((logits.float() - exact).norm() / exact.norm()).item() < 0.1
    if not training:
        assert torch.equal(hidden_changed, logits)
    assert images.grad.isfinite().all() and all(parameter.grad.isfinite().all() for parameter in masked.parameters())


@pytest.mark.parametrize(
    ("visible", "error", "given"),
    [
        (VISIBLE.float(), TypeError, "torch.float32"),
        (VISIBLE[:, 0], ValueError, "(3, 64, 64)"),
        (VISIBLE[:2], ValueError, "(2, 1, 64, 64)"),
        (VISIBLE.expand(3, 3, 64, 64), ValueError, "(3, 3, 64, 64)"),
        (VISIBLE[..., :32], ValueError, "(3, 1, 64, 32)"),
        (VISIBLE.to("meta"), ValueError, "meta"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused_before_anything_is_computed(
    visible: Tensor, error: type[Exception], given: str
) -> None:
    masked, calls = LayerMasking(build("small_resnet")), []
    for module in masked.network.modules():
        module.register_forward_hook(lambda *_: calls.append(1))
    with pytest.raises(error) as refusal:
        masked(draw_images(), visible)
    assert given in str(refusal.value) and calls == []
    masked(draw_images(), VISIBLE)
    assert calls


def test_an_empty_batch_gives_no_logits() -> None:
    masked = LayerMasking(build("small_resnet"))
    assert masked(torch.zeros(0, 3, 64, 64), torch.zeros(0, 1, 64, 64, dtype=torch.bool)).shape == (0, CLASSES)
