"""Grad-CAM of a whole picture, as pytorch-grad-cam computes it."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torchvision.models import resnet18

from maskrobust import LayerMasking, Segments, build_network
from maskrobust.errors import InputError
from maskrobust.lm_modules.callbacks import ExplanationPanel
from maskrobust.lm_modules.explanation.explained import Explained
from maskrobust.lm_modules.explanation.explaining import ExplanationRequest, explain_image
from maskrobust.lm_modules.explanation.plan import ExplanationPlan
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork

IMAGE = torch.rand(3, 80, 80, generator=torch.Generator().manual_seed(0))
SEGMENTS = {"patches": Segments.patches(IMAGE[None], 8)}
METHODS = ("black", "layer_masking")


def shown(network, num_outputs=4, **preprocessing):
    return TrainedNetwork("the network", network.eval(), replace(Preprocessing(), **preprocessing), num_outputs)


def explain(network, *, reads=True, explainers=("lime", "grad_cam")):
    predictors = [[network.predictor(method) for method in METHODS]]
    plan = ExplanationPlan(explainers, samples=128)
    request = ExplanationRequest(IMAGE, predictors, plan, 0, [network] * reads)
    return explain_image(request, SEGMENTS, [2, 0])


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return resnet18(num_classes=4).eval()


@pytest.mark.parametrize(("is_masked", "precision"), [(False, "32"), (True, "bf16")], ids=["plain", "layer masking"])
def test_the_map_is_that_of_pytorch_grad_cam_used_by_hand(network, is_masked, precision):
    trained = shown(LayerMasking(network) if is_masked else network)
    trained.precision = precision
    found = explain(trained)
    assert all(each.grad is None for each in network.parameters())
    scores = found.explanations[Explained("patches", "grad_cam")].scores
    mean, std = (torch.tensor(each)[:, None, None] for each in (Preprocessing().mean, Preprocessing().std))
    with GradCAM(network, [network.layer4]) as by_hand:
        maps = [by_hand(((IMAGE - mean) / std)[None], [ClassifierOutputTarget(label)])[0] for label in (2, 0)]
    expected = np.stack([each.reshape(10, 8, 10, 8).mean(axis=(1, 3)).ravel() for each in maps], axis=-1)
    assert scores.shape == (1, 2, 100, 2) and np.ptp(expected, axis=0).min() > 0.2
    np.testing.assert_allclose(scores[0, 0], expected, atol=1e-5 if precision == "32" else 0.1)
    np.testing.assert_array_equal(scores[0, 0], scores[0, 1])
    assert found.answers["", "grad_cam"].values.shape == (1, 1, 6400, 2)


def test_the_map_lies_where_the_network_looks(network):
    cropped = explain(shown(network, crop=0.6, size=(96, 96))).answers["", "grad_cam"].values[0, 0]
    heat = cropped.reshape(80, 80, 2)
    assert heat[16:64, 16:64].max() == pytest.approx(1) and heat.sum() == pytest.approx(heat[16:64, 16:64].sum())


class Shared(nn.Module):
    """Its last map comes from a module that is called twice, so that the convolution before it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.relu = nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 8, 3, 2), nn.ReLU(inplace=True)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        return self.fc(self.relu(self.second(self.relu(self.first(x)))).mean((2, 3)))


def test_a_module_that_is_called_twice_is_passed_over():
    torch.manual_seed(0)
    network = Shared()
    for each in network.parameters():
        each.requires_grad_(False)
    heat = explain(shown(network)).answers["", "grad_cam"].values[0, 0, :, 0].reshape(80, 80)
    assert heat.max() == pytest.approx(1) and heat.std() > 0.02


@pytest.mark.parametrize("architecture", ["timm/vit_tiny_patch16_224", "timm/swin_tiny_patch4_window7_224", "flat"])
def test_a_network_without_a_convolutional_map_ahead_of_its_head_is_refused(architecture):
    options = {"img_size": 64, "depths": (1, 1, 1, 1)} if "swin" in architecture else {"img_size": 64, "depth": 1}
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 4))
    network = flat if architecture == "flat" else build_network(architecture, 4, options)
    trained = shown(network, size=(64, 64))
    request = ExplanationRequest(IMAGE, [[trained.predictor("black")]], ExplanationPlan(("grad_cam",)), 0, [trained])
    with pytest.raises(InputError, match=r"grad_cam needs a convolutional map .* 'the network' has none there"):
        explain_image(request, SEGMENTS, [0])


def test_what_grad_cam_lacks_is_said_in_a_sentence(network, monkeypatch):
    with pytest.raises(InputError, match="grad_cam reads the network itself, but predictors alone are explained here"):
        explain(shown(network), reads=False)
    with pytest.raises(InputError, match="grad_cam needs gradients"):
        ExplanationPanel(plan=ExplanationPlan(("grad_cam",)))
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    with pytest.raises(InputError, match=r"install it with pip install 'maskrobust\[grad_cam\]'"):
        explain(shown(network))
