"""`torch.compile` reads the whole masked network as one graph and computes the same."""

import copy
import math

import pytest
import torch

from maskrobust.lm_modules.masking import LayerMasking
from tests.lm_modules.masking.networks import draw_images, holes, randomise
from tests.lm_modules.masking.small_networks import Gated, Modern

pytestmark = pytest.mark.usefixtures("fresh_compiler")
SIZE = 32


@pytest.mark.parametrize("make", [Modern, Gated], ids=lambda make: make.__name__)
@torch.no_grad()
def test_the_compiled_network_equals_the_eager_one_for_any_mask(make):
    torch.manual_seed(0)
    masked = LayerMasking(randomise(make()).eval())
    compiled = torch.compile(masked, fullgraph=True, backend="eager")
    visible = holes(SIZE)
    for mask in (visible, visible.flip(2), torch.ones_like(visible), torch.zeros_like(visible)):
        images = torch.where(mask, draw_images(size=SIZE), math.nan)
        torch.testing.assert_close(compiled(images, mask), masked(images, mask), rtol=1e-4, atol=1e-5)


def test_the_compiled_training_pass_has_the_gradients_and_statistics_of_the_eager_one():
    torch.manual_seed(0)
    masked = LayerMasking(randomise(Gated()), padding="mirror", merge="union", detach_padding=False).train()
    twin, visible = copy.deepcopy(masked), holes(SIZE)
    compiled = torch.compile(masked, fullgraph=True, backend="aot_eager")
    results = []
    for either in (compiled, twin):
        images = draw_images(size=SIZE).requires_grad_()
        logits = either(images, visible)
        logits.square().sum().backward()
        results.append([logits, images.grad, *(parameter.grad for parameter in either.parameters())])
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(masked.state_dict(), twin.state_dict(), rtol=1e-5, atol=1e-5)
    assert (results[0][1][~visible.expand(-1, 3, -1, -1)] == 0).all()
