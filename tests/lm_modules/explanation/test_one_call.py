"""`explain`: what one call says of each pixel, and of whom."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from maskrobust import ExplanationPlan, Preprocessing, Segments, TrainedNetwork, build_network, explain
from maskrobust.errors import InputError
from tests.lm_modules.masking.networks import seeded

IMAGES = torch.rand(2, 3, 24, 20, generator=torch.Generator().manual_seed(0))
HALVES = torch.zeros(1, 24, 20, dtype=torch.uint8)
HALVES[..., 10:] = 1


@pytest.fixture(scope="module")
def network():
    return seeded(lambda: build_network("small_resnet", 5).eval())


class ChannelSums(nn.Module):
    """Logits that add up over pixels: the sum of each channel."""

    def forward(self, images):
        return images.sum(dim=(2, 3))


AS_IT_IS = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
HALF_BY_HALF = {"segments": Segments(HALVES), "plan": ExplanationPlan(("occlusion",), scale="logit", window=2)}


def test_one_call_explains_each_pixel_by_its_segment():
    """Of a network that adds up, hiding a window in black takes off just its own sum; 60 windows tile each half."""
    of_channels = partial(explain, ChannelSums(), IMAGES[0], "black", **HALF_BY_HALF, **AS_IT_IS)
    found = of_channels([2, 0])
    for place, channel in enumerate((2, 0)):
        for half in range(2):
            expected = IMAGES[0, channel, :, 10 * half : 10 * half + 10].sum().item() / 60
            assert found.scores[:, 10 * half : 10 * half + 10, place] == pytest.approx(expected, rel=1e-4)
    likeliest = int(IMAGES[0].sum(dim=(1, 2)).argmax())
    best, chosen = (of_channels(each) for each in (None, likeliest))
    assert best.scores.shape == (24, 20, 1) and np.array_equal(best.scores, chosen.scores)


def test_one_call_takes_a_module_or_a_trained_network_and_leaves_its_mode(network):
    shown = Preprocessing()
    trained = TrainedNetwork("mine", network, shown, 5)
    network.train()
    by_module = explain(network, IMAGES[0], target=3, **HALF_BY_HALF)
    assert all(each.training for each in network.modules())
    network.eval()
    by_name = explain(trained, IMAGES[0], target=3, **HALF_BY_HALF)
    assert np.allclose(by_module.scores, by_name.scores, atol=1e-5) and np.ptp(by_name.scores) > 0
    assert explain(network, IMAGES[0], plan=ExplanationPlan(("lime",), samples=128)).r_squared.shape == (1,)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"target": 5}, r"classes to explain must lie in \[0, 5\), .* got \[5\]"),
        ({"target": -1}, r"classes to explain must lie in \[0, 5\)"),
        ({"method": "blue"}, "'blue'"),
        ({"image": IMAGES}, r"image must be \(C, H, W\)"),
        ({"image": IMAGES[0] * 255}, "divide them by 255"),
    ],
)
def test_what_one_call_cannot_explain_is_named(given, named, network):
    with pytest.raises(InputError, match=named):
        explain(network, **{"image": IMAGES[0], "method": "black", **HALF_BY_HALF, **given})
