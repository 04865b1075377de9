"""From an image to an explanation: segments, answers, occlusion, RISE, Grad-CAM, and what layer masking promises."""

import itertools
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models import resnet18

from maskrobust import (
    LayerMasking,
    Queries,
    Segments,
    ask,
    build_network,
    draw_independent,
    kernel_shap,
    leave_one_out,
    lime,
    predictor,
    rise,
    window_occlusion,
    window_queries,
    with_ends,
)
from maskrobust.errors import InputError
from maskrobust.lm_modules.explanation.explained import Explained
from maskrobust.lm_modules.explanation.explainers.registry import find_explainer
from maskrobust.lm_modules.explanation.explaining import ExplanationRequest, explain_image
from maskrobust.lm_modules.explanation.plan import ExplanationPlan
from maskrobust.lm_modules.networks.preprocessing import Preprocessing
from maskrobust.lm_modules.networks.trained_network import TrainedNetwork
from tests.conftest import assert_one_sentence
from tests.lm_modules.masking.networks import seeded

IMAGES = torch.rand(2, 3, 24, 20, generator=torch.Generator().manual_seed(0))
HALVES = torch.zeros(1, 24, 20, dtype=torch.uint8)
HALVES[..., 10:] = 1


def additive(images, visible, keys):
    """Logits that add up over pixels: the visible sum of each channel."""
    return (images * visible).sum(dim=(2, 3))


@pytest.fixture(scope="module")
def network():
    return seeded(lambda: build_network("small_resnet", 5).eval())


@pytest.mark.parametrize("segments", [Segments.patches(IMAGES, 8), Segments.superpixels(IMAGES, "quickshift")])
def test_segments_are_a_partition_that_z_shows(segments):
    for index in range(2):
        z = draw_independent(1, 7, segments.count(index))
        visible = segments.visible(index, z)
        assert visible.shape == (7, 1, 24, 20) and visible.dtype == torch.bool
        for query, row, column in itertools.product(range(7), range(0, 24, 5), range(0, 20, 3)):
            assert visible[query, 0, row, column] == z[query, segments.labels[index, row, column]]
        queries = segments.queries(index, z)
        assert torch.equal(queries.areas, visible.flatten(1).sum(dim=1))
        assert torch.equal(queries.visible(torch.tensor([3, 1])), visible[[3, 1]])


def test_a_label_map_of_ones_own_is_taken_and_scores_are_spread_over_it():
    segments = Segments(HALVES)
    assert segments.labels.dtype == torch.int64 and segments.count(0) == 2
    heat = segments.heat_map(0, np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert heat.shape == (24, 20, 2) and (heat[:, :10] == [1, 2]).all() and (heat[:, 10:] == [3, 4]).all()


@pytest.mark.parametrize("scale", ["probability", "logit", "log_odds"])
def test_answers_are_those_of_asking_query_by_query(scale):
    segments = Segments.patches(IMAGES, 8)
    z = draw_independent(2, 33, segments.count(0))
    answers = ask(lambda *given: additive(*given) / 40, IMAGES[0], segments.queries(0, z), scale=scale, batch_size=7)
    logits = torch.stack([(IMAGES[0] * each).double().sum(dim=(1, 2)) / 40 for each in segments.visible(0, z)])
    p = logits.softmax(dim=1)
    expected = {"probability": p, "logit": logits, "log_odds": (p / (1 - p)).log()}[scale]
    assert answers.dtype == np.float64
    np.testing.assert_allclose(answers, expected, rtol=1e-4, atol=1e-5)


def test_queries_come_by_visible_area_and_random_fills_have_a_key_a_query():
    segments, asked = Segments.patches(IMAGES, 8), []

    def predict(images, visible, keys):
        asked.append((visible.flatten(1).sum(dim=1), keys))
        return (keys % 1000).float()[:, None].expand(-1, 2)

    z = draw_independent(3, 20, segments.count(0), (0.1, 0.9))
    found = [ask(predict, IMAGES[0], segments.queries(0, z), key=5, batch_size=size, scale="logit") for size in (6, 20)]
    areas = torch.cat([area for area, _ in asked[:-1]])
    assert torch.equal(areas, areas.sort().values)
    assert np.array_equal(*found) and len(np.unique(found[0])) > 15


def test_explanations_under_layer_masking_ignore_hidden_pixels_to_the_last_bit(network):
    predict = predictor(LayerMasking(network), "layer_masking", (0.5,) * 3, (0.25,) * 3)
    noise = torch.Generator().manual_seed(1)

    def redrawn(images, visible, keys):
        return predict(torch.where(visible, images, torch.rand(images.shape, generator=noise)), visible, keys)

    segments = Segments.patches(IMAGES, 8)
    z = with_ends(draw_independent(4, 30, segments.count(0)))
    plain, other = (ask(each, IMAGES[0], segments.queries(0, z), batch_size=8) for each in (predict, redrawn))
    assert np.array_equal(plain, other)
    for explain in (lime, kernel_shap):
        assert all(map(np.array_equal, explain(z, plain), explain(z, other)))
    assert np.ptp(plain, axis=0).max() > 1e-3
    black = ask(predictor(network, "black", (0.5,) * 3, (0.25,) * 3), IMAGES[0], segments.queries(0, z))
    assert not np.allclose(black, plain, atol=1e-3)


@pytest.mark.parametrize(("window", "stride"), [(8, 8), (7, 3), (1, 1), (20, 5)])
def test_window_occlusion_is_the_mean_fall_over_the_windows_that_hide_a_pixel(window, stride):
    queries = window_queries(24, 20, window, stride)
    visible = queries.visible(torch.arange(len(queries.areas)))
    assert visible[0].all() and torch.equal(queries.areas, visible.flatten(1).sum(dim=1))
    answers = ask(additive, IMAGES[0], queries, scale="logit")
    scores = window_occlusion(answers, 24, 20, window, stride)
    hidden = ~visible[1:, 0].numpy()
    assert scores.shape == (24, 20, 3) and hidden.any(axis=0).all()
    for row, column in itertools.product(range(0, 24, 4), range(0, 20, 4)):
        falls = answers[0] - answers[1:][hidden[:, row, column]]
        np.testing.assert_allclose(scores[row, column], falls.mean(axis=0), atol=1e-9)


def test_rise_is_the_mean_of_answers_times_visibility_over_the_share():
    z, answers = draw_independent(6, 90, 5, 0.4), np.random.default_rng(0).normal(size=(90, 2))
    found = rise(z, answers, 0.4)
    terms = z.numpy()[:, :, None] * answers[:, None] / 0.4
    np.testing.assert_allclose(found.scores, terms.mean(axis=0))
    half = 1.98698 * terms.std(axis=0, ddof=1) / np.sqrt(90)  # Student's quantile for 89 degrees of freedom
    np.testing.assert_allclose(found.high - found.scores, half, rtol=1e-5)
    np.testing.assert_allclose(found.scores - found.low, half, rtol=1e-5)


@pytest.mark.parametrize(("design", "given"), [("independent", []), ("balanced", [0.0, 1.0]), ("paper", [1.0])])
def test_rise_takes_the_queries_that_are_drawn_and_no_other(design, given):
    plan = ExplanationPlan(("rise",), samples=64, design=design, visible_share=0.5)
    explainer, segments = find_explainer("rise"), Segments.patches(IMAGES[:1], 8)
    z = explainer.asks(plan, segments, 3).z
    answers = np.random.default_rng(0).normal(size=(len(z), 2))
    assert sorted(z[: len(given)].double().mean(dim=1).tolist()) == given
    drawn, of_drawn = z[len(given) :].numpy(), answers[len(given) :]
    expected = (drawn[:, :, None] * of_drawn[:, None]).mean(axis=0) / 0.5
    np.testing.assert_allclose(explainer.function(plan, segments, z, answers).scores, expected)


EVERYTHING = Queries.of(torch.ones(3, 1, 24, 20, dtype=torch.bool))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: Segments(HALVES + 1), "numbered from 0 without a gap, got 2 of 1 to 2 in image 0"),
        (lambda: Segments(torch.zeros(1, 4, 4, dtype=torch.int64)), "at least two segments, got 1 in image 0"),
        (lambda: Segments(HALVES.float()), "labels must be integers"),
        (lambda: Segments.patches(IMAGES, 0), "patch_size must be at least 1"),
        (lambda: Segments.superpixels(IMAGES, "watershed"), "'slic' or 'quickshift', got 'watershed'"),
        (lambda: Segments(HALVES).queries(0, draw_independent(0, 4, 3)), r"z must be bool \(N, 2\)"),
        (lambda: ask(additive, IMAGES, EVERYTHING), r"image must be \(C, H, W\)"),
        (lambda: ask(additive, IMAGES[0], EVERYTHING, scale="odds"), "scale must be one of"),
        (lambda: ask(additive, IMAGES[0], EVERYTHING, batch_size=0), "batch_size must be at least 1"),
        (lambda: ask(additive, IMAGES[0] * torch.nan, EVERYTHING), "for 3 of 3 queries"),
        (lambda: window_queries(24, 20, 21, 3), "stride <= window <= 20"),
        (lambda: window_occlusion(np.zeros((4, 1)), 24, 20, 8, 8), "everything and 9 windows, got 4"),
        (lambda: rise(draw_independent(0, 9, 4), np.zeros((9, 1)), 0), "share must lie above 0"),
        (lambda: rise(draw_independent(0, 9, 4), np.zeros((8, 1)), 0.5), "queries must be bool"),
        (lambda: leave_one_out(1), "segments must be at least 2"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, sentence):
    with pytest.raises(InputError, match=sentence) as refusal:
        call()
    assert_one_sentence(refusal)


def test_log_odds_stay_finite_where_a_probability_rounds_to_one():
    logits = torch.tensor([[80.0, 0.0, -90.0]]).expand(3, -1)
    found = ask(lambda *_: logits, IMAGES[0], EVERYTHING, scale="log_odds")
    np.testing.assert_allclose(found[0], [80.0, -80.0, -170.0], rtol=1e-6)


READS_A_VALUE = {"aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::equal"}


class Reads(TorchDispatchMode):
    """Counts operations that a device would have to finish its work for."""

    count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.count += operation._schema.name in READS_A_VALUE
        return operation(*args, **(kwargs or {}))


def test_the_loop_reads_no_value_back():
    queries = Segments.patches(IMAGES, 8).queries(0, draw_independent(0, 40, 9))
    with Reads() as reads:
        ask(lambda _images, visible, _keys: visible.flatten(1).float(), IMAGES[0], queries, batch_size=8)
    assert reads.count == 0
    with Reads() as reads:
        ask(lambda _images, visible, _keys: visible.flatten(1) * visible.sum().item(), IMAGES[0], queries, batch_size=8)
    assert reads.count == 5


PICTURE = torch.rand(3, 80, 80, generator=torch.Generator().manual_seed(0))
PATCHES = {"patches": Segments.patches(PICTURE[None], 16)}


def shown(network, num_outputs=4, **preprocessing):
    return TrainedNetwork("the network", network.eval(), replace(Preprocessing(), **preprocessing), num_outputs)


def explain(network, *others, reads=True):
    predictors = [[network.predictor(method) for method in ("black", "layer_masking")]]
    plan = ExplanationPlan((*others, "grad_cam"), samples=28)
    request = ExplanationRequest(PICTURE, predictors, plan, 0, [network] * reads)
    return explain_image(request, PATCHES, [2, 0])


@pytest.fixture(scope="module")
def resnet():
    return seeded(lambda: resnet18(num_classes=4).eval())


@pytest.mark.parametrize(("is_masked", "precision"), [(False, "32"), (True, "bf16")], ids=["plain", "layer masking"])
def test_the_map_is_that_of_pytorch_grad_cam_used_by_hand(resnet, is_masked, precision):
    trained = shown(LayerMasking(resnet) if is_masked else resnet).configured(precision=precision)
    found = explain(trained, *["lime"] * is_masked)
    assert all(each.grad is None for each in resnet.parameters())
    scores = found.explanations[Explained("patches", "grad_cam")].scores
    mean, std = (torch.tensor(each)[:, None, None] for each in (Preprocessing().mean, Preprocessing().std))
    with GradCAM(resnet, [resnet.layer4]) as by_hand:
        maps = [by_hand(((PICTURE - mean) / std)[None], [ClassifierOutputTarget(label)])[0] for label in (2, 0)]
    expected = np.stack([each.reshape(5, 16, 5, 16).mean(axis=(1, 3)).ravel() for each in maps], axis=-1)
    assert scores.shape == (1, 2, 25, 2) and np.ptp(expected, axis=0).min() > 0.2
    np.testing.assert_allclose(scores[0, 0], expected, atol=1e-5 if precision == "32" else 0.1)
    np.testing.assert_array_equal(scores[0, 0], scores[0, 1])
    assert found.answers["", "grad_cam"].values.shape == (1, 1, 6400, 2)


def test_the_map_lies_where_the_network_looks(resnet):
    cropped = explain(shown(resnet, crop=0.6, size=(96, 96))).answers["", "grad_cam"].values[0, 0]
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
    request = ExplanationRequest(PICTURE, [[trained.predictor("black")]], ExplanationPlan(("grad_cam",)), 0, [trained])
    with pytest.raises(InputError, match=r"grad_cam needs a convolutional map .* 'the network' has none there"):
        explain_image(request, PATCHES, [0])


def test_what_grad_cam_lacks_is_said_in_a_sentence(resnet, monkeypatch):
    with pytest.raises(InputError, match="grad_cam reads the network itself, but predictors alone are explained here"):
        explain(shown(resnet), reads=False)
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    with pytest.raises(InputError, match=r"install it with pip install 'maskrobust\[grad_cam\]'"):
        explain(shown(resnet))
