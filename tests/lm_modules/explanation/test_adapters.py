"""What the adapters promise by themselves; test_peers.py runs the libraries that they are for."""

import numpy as np
import pytest
import torch

from maskrobust import (
    LayerMasking,
    NanNetwork,
    Queries,
    Segments,
    all_coalitions,
    ask,
    build_network,
    coalition_game,
    nan_classifier,
    predictor,
    visibility_forward,
)
from maskrobust.errors import InputError

IMAGE = torch.rand(3, 16, 12, generator=torch.Generator().manual_seed(0))
SEGMENTS = Segments.patches(IMAGE[None], 8)
VISIBLE = SEGMENTS.visible(0, all_coalitions(4))
WITH_NAN = torch.where(VISIBLE, IMAGE, torch.nan)
STATISTICS = (0.5,) * 3, (0.25,) * 3


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_network("small_resnet", 5).eval()


@pytest.fixture(params=["black", "uniform_noise", "layer_masking"])
def predict(network, request):
    return predictor(LayerMasking(network) if request.param == "layer_masking" else network, request.param, *STATISTICS)


@pytest.mark.parametrize("scale", ["probability", "logit", "log_odds"])
def test_every_form_of_a_question_has_the_answer_of_ask(network, scale):
    predict = predictor(LayerMasking(network), "layer_masking", *STATISTICS)
    expected = ask(predict, IMAGE, Queries.of(VISIBLE), scale=scale)
    arrays = WITH_NAN.permute(0, 2, 3, 1).double().numpy()
    found = {
        "map": visibility_forward(predict, IMAGE, scale=scale)(VISIBLE.float()),
        "map of every channel": visibility_forward(predict, IMAGE, scale=scale)(VISIBLE.double().expand(-1, 3, -1, -1)),
        "images": NanNetwork(predict, scale=scale)(WITH_NAN).detach(),
        "arrays": nan_classifier(predict, scale=scale)(arrays),
    }
    for name, answers in found.items():
        np.testing.assert_allclose(answers, expected, atol=1e-5, err_msg=name)
    value = coalition_game(predict, IMAGE, SEGMENTS, 3, scale=scale)(all_coalitions(4).numpy())
    np.testing.assert_allclose(value, expected[:, 3], atol=1e-5)
    assert np.ptp(expected, axis=0).max() > 1e-2


def test_an_answer_depends_on_the_map_alone_and_random_fills_on_the_key(predict):
    maps, z = VISIBLE.float(), all_coalitions(4).numpy()
    arrays = WITH_NAN.permute(0, 2, 3, 1).numpy()
    for key in (0, 7):
        forward, classify = visibility_forward(predict, IMAGE, key), nan_classifier(predict, key)
        value = coalition_game(predict, IMAGE, SEGMENTS, 2, key=key, batch_size=5)
        one_by_one = torch.cat([forward(maps[each : each + 1]) for each in reversed(range(16))]).flip(0)
        np.testing.assert_allclose(one_by_one, forward(maps), atol=1e-6)
        np.testing.assert_allclose(value(z[::-1])[::-1], forward(maps)[:, 2], atol=1e-6)
        np.testing.assert_allclose(classify(arrays[::-1])[::-1], forward(maps), atol=1e-6)


def test_a_pixel_is_hidden_where_any_channel_is_nan(network):
    network_of_nan = NanNetwork(predictor(LayerMasking(network), "layer_masking", *STATISTICS))
    one_channel = torch.where(VISIBLE.expand(-1, 3, -1, -1) | (torch.arange(3) != 1)[:, None, None], IMAGE, torch.nan)
    assert torch.equal(network_of_nan(one_channel), network_of_nan(WITH_NAN))


def test_gradients_of_images_with_nan_are_finite_and_zero_where_hidden(network):
    images = WITH_NAN.clone().requires_grad_()
    NanNetwork(predictor(LayerMasking(network), "layer_masking", *STATISTICS), scale="logit")(images)[
        :, 0
    ].sum().backward()
    assert images.grad.isfinite().all() and images.grad.abs().max() > 0
    assert not images.grad[~VISIBLE.expand_as(images)].any()


def additive(images, visible, keys):
    return (images * visible).sum(dim=(2, 3))


def channels_apart():
    maps = torch.ones(1, 3, 16, 12)
    maps[0, 1] = 0
    return maps


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: visibility_forward(additive, IMAGE[None]), r"image must be \(C, H, W\)"),
        (lambda: visibility_forward(additive, IMAGE, scale="odds"), "scale must be one of"),
        (lambda: visibility_forward(additive, IMAGE)(torch.ones(16, 12)), r"maps must be \(N, 1, 16, 12\)"),
        (lambda: visibility_forward(additive, IMAGE)(torch.ones(1, 1, 12, 16)), r"got \(1, 1, 12, 16\)"),
        (lambda: visibility_forward(additive, IMAGE)(torch.full((1, 1, 16, 12), 0.5)), "0 where hidden and 1"),
        (lambda: visibility_forward(additive, IMAGE)(torch.full((1, 1, 16, 12), torch.nan)), "0 where hidden and 1"),
        (lambda: visibility_forward(additive, IMAGE)(channels_apart()), "in all channels alike"),
        (lambda: coalition_game(additive, IMAGE[None], SEGMENTS, 0), r"image must be \(C, H, W\)"),
        (lambda: coalition_game(additive, IMAGE, SEGMENTS, 0, scale="odds"), "scale must be one of"),
        (lambda: coalition_game(additive, IMAGE, SEGMENTS, 3)(np.ones((1, 4), bool)), "from 0 to 2, got 3"),
        (lambda: coalition_game(additive, IMAGE, SEGMENTS, -1)(np.ones((1, 4), bool)), "from 0 to 2, got -1"),
        (lambda: coalition_game(additive, IMAGE, SEGMENTS, 0)(np.ones((1, 5), bool)), r"z must be bool \(N, 4\)"),
        (lambda: nan_classifier(additive, scale="odds"), "scale must be one of"),
        (lambda: nan_classifier(additive)(np.zeros((1, 16, 12, 3), np.uint8)), "got uint8 .* integers have no NaN"),
        (lambda: nan_classifier(additive)(np.zeros((16, 12, 3))), r"arrays must be floats \(N, H, W, C\)"),
        (lambda: nan_classifier(additive)(np.full((1, 16, 12, 3), 200.0)), "got 200 to 200; divide by 255"),
        (lambda: NanNetwork(additive, scale="odds"), "scale must be one of"),
        (lambda: NanNetwork(additive)(torch.zeros(1, 3, 16, 12, dtype=torch.uint8)), "integers have no NaN"),
        (lambda: NanNetwork(additive)(torch.zeros(3, 16, 12)), r"images must be floats \(N, C, H, W\)"),
        (lambda: NanNetwork(additive)(IMAGE[None] - 2), "visible pixels must lie in"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, sentence):
    with pytest.raises(InputError, match=sentence) as refusal:
        call()
    assert "\n" not in str(refusal.value) and str(refusal.value).endswith(".")
