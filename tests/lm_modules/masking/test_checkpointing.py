"""Checkpointed training computes the same gradients and statistics, and keeps less."""

import copy

import pytest
import torch
import torchvision
from torch import nn

from maskrobust.lm_modules.masking import LayerMasking
from tests.lm_modules.masking.networks import build, draw_images, holes


def trained_once(network, segments):
    """Gradients of images and parameters, and the state after one pass forward and back."""
    masked = LayerMasking(copy.deepcopy(network), checkpoint_segments=segments).train()
    images = draw_images(size=32).requires_grad_()
    masked(images, holes(32)).square().sum().backward()
    gradients = [images.grad, *(parameter.grad for parameter in masked.parameters())]
    assert all(gradient is not None for gradient in gradients)
    return gradients, masked.state_dict()


@pytest.mark.parametrize("segments", [3, 1000])
@pytest.mark.parametrize(
    "make",
    [
        lambda: build("basic_resnet"),
        lambda: torchvision.models.DenseNet(16, (2, 2), 16, num_classes=3),
        lambda: nn.Sequential(nn.ELU(inplace=True), build("basic_resnet")),
    ],
    ids=["basic_resnet", "densenet", "images changed in place"],
)
def test_gradients_and_statistics_do_not_change(make, segments):
    torch.manual_seed(0)
    network = make()
    gradients, state = trained_once(network, 0)
    again, state_again = trained_once(network, segments)
    torch.testing.assert_close(again, gradients, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(state_again, state, rtol=0, atol=0)


def test_less_is_kept_for_the_backward_pass():
    kept = []
    for segments in (0, 4):
        sizes: list[int] = []

        def note(tensor, sizes=sizes):
            sizes.append(tensor.numel())
            return tensor

        masked = LayerMasking(build("basic_resnet"), checkpoint_segments=segments).train()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            masked(draw_images(size=32), holes(32))
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 3
