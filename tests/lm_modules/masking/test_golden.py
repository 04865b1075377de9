"""ResNet-50 against the logits of the paper's own code, which the project does not contain.

`golden/resnet50_layer_masking.npz` holds `plain_logits` and `masked_logits`, (3, 1000) float32, computed on a CPU in
eval mode. Weights, images and masks follow from a formula, so that no random generator is involved.
"""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from maskrobust.lm_modules.masking import LayerMasking, morphology

SIZE = 128


def pseudo_random(count, stream):
    """(count,) values in [0, 1): the fractional part of sin(12.9898 k + 78.233 stream) * 43758.5453."""
    wave = np.sin(12.9898 * np.arange(count, dtype=np.float64) + 78.233 * stream) * 43758.5453
    return wave - np.floor(wave)


def draw_weights(name, shape, stream):
    u = pseudo_random(int(np.prod(shape)), stream)
    if name.endswith("running_var"):
        values = 0.5 + u
    elif name.endswith("running_mean"):
        values = 0.2 * (u - 0.5)
    elif len(shape) >= 2:
        values = (u - 0.5) * np.sqrt(12) * np.sqrt(2 / np.prod(shape[1:]))
    elif name.endswith("weight"):
        values = 0.8 + 0.4 * u
    else:
        values = 0.2 * (u - 0.5)
    return torch.from_numpy(values.reshape(shape)).float()


@pytest.fixture(scope="module")
def masked_network():
    with torch.device("meta"):
        network = torchvision.models.resnet50()
    names = sorted(network.state_dict())
    drawn = {
        name: torch.tensor(0) if name.endswith("num_batches_tracked") else draw_weights(name, tuple(tensor.shape), i)
        for i, name in enumerate(names)
        for tensor in [network.state_dict()[name]]
    }
    network.load_state_dict(drawn, assign=True)
    return LayerMasking(network.eval())


@pytest.fixture(scope="module")
def images():
    return torch.from_numpy(3 * (pseudo_random(9 * SIZE * SIZE, 0) - 0.5)).float().reshape(3, 3, SIZE, SIZE)


@pytest.fixture(scope="module")
def visible():
    y, x = np.mgrid[:SIZE, :SIZE]
    disc_hidden = (y - 60) ** 2 + (x - 70) ** 2 >= 35**2
    patches_hidden = (5 * (y // 16) + 3 * (x // 16)) % 7 >= 3
    box_shown = (y >= 20) & (y < 50) & (x >= 30) & (x < 100)
    return torch.from_numpy(np.stack([disc_hidden, patches_hidden, box_shown])[:, None])


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(Path(__file__).with_name("golden") / "resnet50_layer_masking.npz"))


def relative_difference(given, expected):
    return float(np.linalg.norm(given.numpy() - expected) / np.linalg.norm(expected))


@torch.no_grad()
def test_without_a_mask_the_logits_are_those_of_the_plain_network(masked_network, images, golden):
    assert relative_difference(masked_network(images), golden["plain_logits"]) < 1e-6


@torch.no_grad()
def test_masked_logits_agree_with_the_papers_code(masked_network, images, visible, golden):
    logits = masked_network(images, visible)
    assert relative_difference(logits, golden["masked_logits"]) < 1e-5
    assert relative_difference(logits, golden["plain_logits"]) > 0.2


@torch.no_grad()
def test_the_difference_is_an_epsilon_in_the_papers_means(masked_network, images, visible, golden, monkeypatch):
    """The paper's code divides the sum of n known neighbours by n + 1e-5. In float64, to see past rounding."""
    true_rings = morphology.ring_rows

    def papers_rings(visible):
        for ring in true_rings(visible):
            counts = (1 / ring.weights.double()).round()
            yield replace(ring, weights=1 / (counts + 1e-5))

    network = copy.deepcopy(masked_network).double()
    with_true_means = network(images[2:].double(), visible[2:])
    assert relative_difference(with_true_means, golden["masked_logits"][2:]) > 1e-5
    monkeypatch.setattr(morphology, "ring_rows", papers_rings)
    for logits, expected in zip(network(images.double(), visible), golden["masked_logits"], strict=True):
        assert relative_difference(logits, expected) < 1e-6
