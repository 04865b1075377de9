"""What holds for every network: hidden pixels do not matter, visible ones are computed as ever."""

import copy
import math
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import googlenet

from maskrobust.lm_modules.masking import LayerMasking
from tests.lm_modules.masking.networks import draw_images, holes, randomise
from tests.lm_modules.masking.small_networks import SMALL_NETWORKS

every_network = pytest.mark.parametrize("kind", SMALL_NETWORKS, ids=lambda kind: kind.__name__)
both_modes = pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
both_merges = pytest.mark.parametrize("merge", ["intersection", "union"])
SIZE = 32
VISIBLE = holes(SIZE)


every_padding = pytest.mark.parametrize("padding", ["mean", "mirror"])


@cache
def _wrapped(kind: type[nn.Module], **options: Any) -> LayerMasking:
    torch.manual_seed(0)
    return LayerMasking(randomise(kind()).eval(), **options)


def wrapped(kind: type[nn.Module], **options: Any) -> LayerMasking:
    """A fresh copy of the same masked network each time, in eval mode."""
    return copy.deepcopy(_wrapped(kind, **options))


def logits_of(masked: LayerMasking, images: Tensor, visible: Tensor) -> Tensor:
    """With the same dropout each time."""
    torch.manual_seed(1)
    return masked(images, visible)


@every_network
@torch.no_grad()
def test_all_visible_is_the_plain_network_bit_for_bit(kind: type[nn.Module]) -> None:
    masked, images = wrapped(kind), draw_images(size=SIZE)
    assert torch.equal(masked(images, torch.ones_like(VISIBLE)), masked.network(images))


@every_network
@both_merges
@torch.no_grad()
def test_a_whole_image_among_masked_ones_has_the_logits_of_the_plain_network(kind: type[nn.Module], merge: str) -> None:
    masked, images = wrapped(kind, merge=merge), draw_images(4, SIZE)
    logits, plain = masked(images, torch.cat([VISIBLE, torch.ones_like(VISIBLE[:1])])), masked.network(images)
    torch.testing.assert_close(logits[3], plain[3], rtol=1e-4, atol=1e-5)
    assert ((logits[:3] - plain[:3]).abs() > 1e-3).any(dim=1).all()


@every_network
@both_modes
@pytest.mark.parametrize("options", [{}, {"merge": "union"}, {"padding": "mirror"}], ids=str)
@torch.no_grad()
def test_what_hidden_pixels_hold_changes_no_bit(kind: type[nn.Module], training: bool, options: dict[str, str]) -> None:
    masked, images = wrapped(kind, **options).train(training), draw_images(size=SIZE)
    expected = logits_of(masked, images, VISIBLE)
    for hidden_value in (math.nan, -1e30):
        assert torch.equal(logits_of(masked, torch.where(VISIBLE, images, hidden_value), VISIBLE), expected)
        assert all(tensor.isfinite().all() for tensor in masked.state_dict().values())
    assert expected.isfinite().all()


@every_network
@both_modes
@every_padding
@pytest.mark.parametrize("detach_padding", [True, False])
def test_hidden_pixels_get_a_gradient_of_exactly_zero_and_visible_ones_do_not(
    kind: type[nn.Module], training: bool, padding: str, detach_padding: bool
) -> None:
    masked = wrapped(kind, padding=padding, detach_padding=detach_padding).train(training)
    images = torch.where(VISIBLE, draw_images(size=SIZE), math.nan).requires_grad_()
    logits_of(masked, images, VISIBLE).square().sum().backward()
    magnitude = images.grad.abs().sum(dim=1, keepdim=True)
    assert (magnitude[~VISIBLE] == 0).all() and (magnitude[VISIBLE] > 0).any()
    assert all(parameter.grad.isfinite().all() for parameter in masked.parameters())


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


@every_network
@every_padding
@torch.no_grad()
def test_logits_of_an_image_do_not_depend_on_its_batch(kind: type[nn.Module], padding: str) -> None:
    masked, images = wrapped(kind, padding=padding).double(), draw_images(4, SIZE).double()
    visible = torch.cat([VISIBLE, torch.zeros_like(VISIBLE[:1])])
    together = masked(images, visible)
    for i in range(4):
        torch.testing.assert_close(masked(images[i : i + 1], visible[i : i + 1])[0], together[i], rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_auxiliary_heads_of_a_training_network_are_masked_like_the_main_one() -> None:
    torch.manual_seed(0)
    size = 64
    network = googlenet(num_classes=3, aux_logits=True, transform_input=True, init_weights=False).train()
    masked, images, visible = LayerMasking(network), draw_images(2, size), holes(size)[1:]
    outputs = logits_of(masked, images, visible)
    assert type(outputs) is type(network(images)) and len(outputs) == 3
    for output, same in zip(outputs, logits_of(masked, torch.where(visible, images, math.nan), visible), strict=True):
        assert output.shape == (2, 3) and output.isfinite().all() and torch.equal(output, same)
    everything = torch.ones_like(visible)
    for output, expected in zip(logits_of(masked, images, everything), plain(network, images), strict=True):
        torch.testing.assert_close(output, expected, rtol=1e-3, atol=1e-3)


def plain(network: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    return network(images)
