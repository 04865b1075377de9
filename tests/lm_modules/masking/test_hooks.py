"""Hooks of modules fire under a mask as in the plain network, and layers that compute their weights are called."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import LayerGradCam
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import parametrizations, weight_norm
from torch.testing import assert_close

from maskrobust.lm_modules.masking import LayerMasking, Masked
from tests.lm_modules.masking.networks import build, draw_images, holes

IMAGES, VISIBLE = draw_images(), holes()


def features_of(output):
    """Of their own, for later layers may change these in place."""
    return output.as_plain() if isinstance(output, Masked) else output.clone()


class Join(nn.Module):
    """Is handed several tensors, by position and by name."""

    scale = 1.0

    def forward(self, branches, settings, *, shift):
        return {"sum": branches[0] * settings["scale"] * self.scale + branches[1] - shift}


class Joined(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.join, self.fc = nn.Conv2d(3, 8, 3, 2, 1), Join(), nn.Linear(8, 3)

    def forward(self, x):
        x = self.stem(x)
        return self.fc(self.join([x, F.max_pool2d(x, 3, 1, 1)], {"scale": 2.0}, shift=x)["sum"].mean((2, 3)))


@torch.no_grad()
def test_structures_of_tensors_are_shown_and_taken_back():
    network, order = Joined().eval(), []
    masked = LayerMasking(network)

    def double_first(module, args, kwargs):
        order.append("pre")
        assert module is network.join and kwargs["shift"].shape == args[0][0].shape and args[1] == {"scale": 2.0}
        return ([args[0][0] * 2, args[0][1]], args[1]), kwargs

    def keep(_module, args, kwargs, output):
        order.append("post")
        expected = args[0][0] * 2 + args[0][1] - kwargs["shift"]
        assert expected.visible is output["sum"].visible
        assert_close(output["sum"].as_plain(), expected.as_plain())

    handles = [
        network.join.register_forward_pre_hook(double_first, with_kwargs=True),
        network.join.register_forward_hook(keep, with_kwargs=True, always_call=True),
    ]
    doubled = masked(IMAGES, VISIBLE)
    for handle in handles:
        handle.remove()
    assert order == ["pre", "post"] and not torch.equal(doubled, masked(IMAGES, VISIBLE))
    network.join.scale = 2.0  # the pooled branch and the shift stay the old ones
    assert_close(doubled, masked(IMAGES, VISIBLE))


@torch.no_grad()
def test_a_hook_may_return_other_positions_and_hooks_of_all_modules_are_called_as_well():
    network, called = build("basic_resnet"), []
    masked = LayerMasking(network)
    with network.layer4.register_forward_hook(lambda _module, _inputs, output: output[:, :, :1]):
        sliced = masked(IMAGES, VISIBLE)
    layer4 = masked.output_of("layer4", IMAGES, VISIBLE)
    shown = layer4.visible.positions[:, :, :1]
    means = layer4.as_plain()[:, :, :1].sum((2, 3)) / shown.sum((2, 3)).clamp(min=1)
    assert_close(sliced, network.fc(means), rtol=1e-4, atol=1e-5)
    with register_module_forward_hook(lambda module, _inputs, _output: called.append(module)):
        masked(IMAGES, VISIBLE)
    assert set(called) == {masked, *network.modules()}


@pytest.mark.parametrize("layer", ["layer3", "maxpool"])
def test_backward_hooks_see_and_change_gradients(layer):
    network, seen = build("basic_resnet"), []
    masked, module = LayerMasking(network), network.get_submodule(layer)

    def halve(given, gradients):
        seen.append(given is module)
        return tuple(gradient / 2 for gradient in gradients)

    def gradient():
        images = IMAGES.clone().requires_grad_()
        masked(images, VISIBLE).square().sum().backward()
        return images.grad

    before = gradient()
    module.register_full_backward_hook(lambda given, _inputs, outputs: seen.append((given is module, outputs[0].shape)))
    module.register_full_backward_pre_hook(halve)
    if layer == "maxpool":  # all paths lead through it
        assert_close(gradient(), before / 2, rtol=1e-3, atol=1e-6)
    else:
        assert not torch.allclose(gradient(), before, rtol=1e-3, atol=1e-6)
    features = features_of(masked.output_of(layer, IMAGES, VISIBLE))
    assert seen == [True, (True, features.shape)]


class UnderMask(nn.Module):
    """A network of the images alone, as explainers take one."""

    def __init__(self, masked: LayerMasking) -> None:
        super().__init__()
        self.masked = masked

    def forward(self, images):
        return self.masked(images, VISIBLE)


def test_captum_and_pytorch_grad_cam_have_the_layer_grad_cam_computed_by_hand():
    masked = LayerMasking(build("basic_resnet"))
    output = masked.output_of("layer4", IMAGES, VISIBLE)
    features = output.as_plain().detach()
    counts = output.visible.positions.sum((2, 3))
    pooled = (features.sum((2, 3)) / counts).requires_grad_()
    masked.network.fc(pooled)[:, 2].sum().backward()
    # Each visible position has 1 / count of the pooled channel's gradient; Grad-CAM takes the mean over all positions.
    weights = pooled.grad / features[0, 0].numel()
    by_hand = (weights[:, :, None, None] * features).sum(1, keepdim=True)
    given = LayerGradCam(UnderMask(masked), masked.network.layer4).attribute(IMAGES, target=2)
    assert by_hand.abs().max() > 1e-3
    assert_close(given.detach(), by_hand.detach(), rtol=1e-4, atol=1e-6)
    with GradCAM(UnderMask(masked), [masked.network.layer4]) as of_library:
        maps = of_library(IMAGES, [ClassifierOutputTarget(2)] * len(IMAGES))
    for found, positive in zip(maps, by_hand.detach().relu()[:, 0].numpy(), strict=True):
        scaled = (positive - positive.min()) / np.ptp(positive)
        np.testing.assert_allclose(found, cv2.resize(scaled, found.shape[::-1]), atol=1e-4)


@pytest.mark.usefixtures("fresh_compiler")
@torch.no_grad()
def test_hooks_take_effect_when_compiled():
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.ReLU()), *head).eval()
    masked = LayerMasking(network)
    network[1].register_forward_hook(lambda _module, _inputs, output: output * 2)
    compiled = torch.compile(masked, fullgraph=True, backend="eager")
    assert_close(compiled(IMAGES, VISIBLE), masked(IMAGES, VISIBLE))


@pytest.mark.parametrize("reparametrise", [weight_norm, parametrizations.spectral_norm], ids=["hook", "property"])
@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
def test_a_layer_that_computes_its_weight_does_so_in_each_pass(reparametrise):
    layer = reparametrise(nn.Conv2d(3, 4, 3, padding=1))
    network = nn.Sequential(layer, nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    masked = LayerMasking(network)

    def by_hand():
        """A plain convolution with the weight that the plain pass has just computed."""
        network(IMAGES)
        plain = nn.Conv2d(3, 4, 3, padding=1)
        plain.load_state_dict({"weight": layer.weight.detach(), "bias": layer.bias.detach()})
        return LayerMasking(nn.Sequential(plain, *network[1:]).eval())(IMAGES, VISIBLE)

    with torch.no_grad():
        before = masked(IMAGES, VISIBLE)
        assert_close(before, by_hand(), rtol=1e-4, atol=1e-5)
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape))
        after = masked(IMAGES, VISIBLE)
        assert_close(after, by_hand(), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(after, before, rtol=1e-2, atol=1e-2)
    masked.train()
    for _ in range(2):
        masked(IMAGES, VISIBLE).square().sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())
