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


@every_network
@pytest.mark.parametrize("size", [56, 64])
@torch.no_grad()
def test_all_visible_is_the_plain_network_bit_for_bit(name: str, size: int) -> None:
    network, images = build(name), draw_images(size=size)
    masked = LayerMasking(network)
    assert torch.equal(masked(images, torch.ones_like(holes(size))), network(images))


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


@every_network
@both_modes
@torch.no_grad()
def test_what_hidden_pixels_hold_changes_no_bit(name: str, training: bool) -> None:
    images, outcomes = draw_images(), []
    for hidden_value in (images, math.nan, math.inf, -1e30):
        masked = LayerMasking(build(name)).train(training)
        outcomes.append((masked(torch.where(VISIBLE, images, hidden_value), VISIBLE), masked))
    (logits, masked), *others = outcomes
    assert logits.isfinite().all() and logits.shape == (3, CLASSES)
    assert not torch.equal(logits, masked(images, torch.ones_like(VISIBLE)))
    for other_logits, other in others:
        assert torch.equal(other_logits, logits)
        if training:
            assert all(tensor.isfinite().all() for tensor in other.state_dict().values())


@every_network
@both_modes
@pytest.mark.parametrize("detach_padding", [True, False])
def test_hidden_pixels_get_a_gradient_of_exactly_zero_and_visible_ones_do_not(
    name: str, training: bool, detach_padding: bool
) -> None:
    masked = LayerMasking(build(name), detach_padding=detach_padding).train(training)
    images = torch.where(VISIBLE, draw_images(), math.nan).requires_grad_()
    masked(images, VISIBLE).square().sum().backward()
    magnitude = images.grad.abs().sum(dim=1, keepdim=True)
    assert (magnitude[~VISIBLE] == 0).all()
    for sample, seen in zip(magnitude, VISIBLE, strict=True):
        assert (sample[seen] > 0).float().mean() > 0.5
    assert all(parameter.grad.isfinite().all() for parameter in masked.parameters())


@every_network
@both_modes
def test_nothing_visible_is_finite_forward_and_backward(name: str, training: bool) -> None:
    masked = LayerMasking(build(name)).train(training)
    before = state(masked)
    images = torch.full((2, 3, 64, 64), math.nan, requires_grad=True)
    logits = masked(images, torch.zeros(2, 1, 64, 64, dtype=torch.bool))
    logits.square().sum().backward()
    assert torch.equal(logits, masked.network.fc.bias.expand_as(logits))
    assert torch.equal(images.grad, torch.zeros_like(images))
    assert all(parameter.grad.isfinite().all() for parameter in masked.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in masked.state_dict().items())


@pytest.mark.parametrize("visible_pixels", [1, 2])
def test_a_pixel_or_two_in_a_training_batch_are_enough_to_stay_finite(visible_pixels: int) -> None:
    masked = LayerMasking(build("small_resnet")).train()
    visible = torch.zeros(2, 1, 64, 64, dtype=torch.bool)
    visible[0, 0, 31, 31 : 31 + visible_pixels] = True
    logits = masked(draw_images(2), visible)
    logits.square().sum().backward()
    assert logits.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in masked.parameters())


@every_network
@torch.no_grad()
def test_logits_of_a_sample_do_not_depend_on_its_batch(name: str) -> None:
    masked, images = LayerMasking(build(name)).double(), draw_images(5).double()
    visible = torch.cat([VISIBLE, torch.ones_like(VISIBLE[:1]), torch.zeros_like(VISIBLE[:1])])
    together = masked(images, visible)
    for i in range(5):
        alone = masked(images[i : i + 1], visible[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], rtol=1e-9, atol=1e-9)


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
