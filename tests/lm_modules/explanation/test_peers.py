"""Adapters to explainers of other libraries, which say what ours say; and the page on explanations."""

import itertools

import numpy as np
import pytest
import torch

from maskrobust import (
    LayerMasking,
    NanNetwork,
    Queries,
    Segments,
    ask,
    build_network,
    lime,
    nan_classifier,
    occlusion,
    occlusion_queries,
    predictor,
    visibility_forward,
)
from tests.lm_modules.masking.networks import seeded
from tests.pages.commands import blocks
from tests.test_house import ROOT

PAGE = ROOT / "docs" / "explanations.md"
IMAGE = torch.rand(3, 24, 24, generator=torch.Generator().manual_seed(0))
PIXELS = IMAGE.permute(1, 2, 0).double().numpy()
EVERYTHING = torch.ones(1, 1, 24, 24)
NINTHS = Segments.patches(IMAGE[None], 8)
CLASS = 1
ROOT_TWO = 2**0.5


def all_coalitions(segments):
    return torch.tensor([*itertools.product((False, True), repeat=segments)])


importing_shap_warns = pytest.mark.filterwarnings(
    "ignore:The set_bad function will be deprecated in a future version",  # matplotlib's words to shap
    "ignore:The set_over function will be deprecated in a future version",
    "ignore:The set_under function will be deprecated in a future version",
)


@pytest.fixture(scope="module")
def predict():
    """A small ResNet under layer masking whose logits differ by about 1, so that tolerances mean something."""
    network = seeded(lambda: build_network("small_resnet", 4).eval())
    network.fc.weight.data *= 50
    return predictor(LayerMasking(network), "layer_masking", (0.5,) * 3, (0.25,) * 3)


class Recorded:
    """A function that notes what it is asked and what it answers.

    Attributes:
        given: the arguments, (n, ...) each.
        answers: the results, (n, K) each.
    """

    def __init__(self, function):
        self.function, self.given, self.answers = function, [], []

    def __call__(self, batch):
        result = self.function(batch)
        self.given.append(np.asarray(batch).copy())
        self.answers.append(np.asarray(result, dtype=np.float64))
        return result


def queries_of(visible, segments):
    """Which segments each map (n, H, W) bool shows, (n, M); fails where it shows a part of one."""
    z = np.stack([visible[:, segments.labels[0].numpy() == each] for each in range(segments.count(0))], axis=1)
    assert (z == z[:, :, :1]).all()
    return torch.from_numpy(z[:, :, 0])


def test_coefficients_are_those_of_the_package_lime_on_its_masks(predict):
    package = pytest.importorskip("lime.lime_image")
    classify = Recorded(nan_classifier(predict))
    found = package.LimeImageExplainer(kernel_width=0.25, random_state=0).explain_instance(
        PIXELS,
        classify,
        hide_color=np.nan,
        top_labels=4,
        num_samples=120,
        segmentation_fn=lambda _: NINTHS.labels[0].numpy(),
    )
    theirs = [[dict(found.local_exp[label])[segment] for label in range(4)] for segment in range(9)]
    z = queries_of(~np.isnan(np.concatenate(classify.given)).any(axis=3), NINTHS)
    answers = np.concatenate(classify.answers)
    np.testing.assert_allclose(lime(z, answers, kernel_width=0.25 * ROOT_TWO).scores, theirs, atol=1e-6)
    asked_by_us = ask(predict, IMAGE, NINTHS.queries(0, z))
    np.testing.assert_allclose(lime(z, asked_by_us, kernel_width=0.25 * ROOT_TWO).scores, theirs, atol=1e-5)
    assert np.abs(lime(z, answers, kernel_width=0.25).scores - theirs).max() > 1e-3 and np.ptp(theirs) > 0.02


@pytest.mark.parametrize("perturbations_per_eval", [1, 3])
def test_captums_feature_ablation_of_patches_is_our_occlusion_by_windows_of_their_size(predict, perturbations_per_eval):
    captum = pytest.importorskip("captum.attr")
    theirs = captum.FeatureAblation(visibility_forward(predict, IMAGE)).attribute(
        EVERYTHING, target=CLASS, feature_mask=NINTHS.labels[:, None], perturbations_per_eval=perturbations_per_eval
    )
    ours = occlusion(ask(predict, IMAGE, occlusion_queries(24, 24, 8, 8)), 24, 24, 8, 8)
    np.testing.assert_allclose(ours[..., CLASS], theirs[0, 0], atol=1e-6)
    assert np.ptp(ours[..., CLASS]) > 0.02


@importing_shap_warns
def test_the_code_of_the_page_runs_and_gives_the_shapes_it_says(capsys):
    names = {}
    python = [block.text for block in blocks(PAGE) if block.language == "python"]
    ours = next(place for place, text in enumerate(python) if "NanNetwork" in text)
    for text in python[:ours]:
        exec(compile(text, PAGE.name, "exec"), names)
    count, classes = names["segments"].count(0), names["data"].num_classes
    assert capsys.readouterr().out.count(f"({count}, {classes})") == 1
    assert names["heat"].shape == (*names["images"].shape[2:], classes)
    assert np.ptp(names["explanation"].scores) > 0
    for library in ("lime", "shap", "shapiq"):
        pytest.importorskip(library)
    for text in python[ours:]:
        exec(compile(text.replace("samples=256", "samples=32"), PAGE.name, "exec"), names)
    printed = ["16", "(1, 48, 48, 3, 8)", "(16,)"]
    assert capsys.readouterr().out.splitlines()[-len(printed) :] == printed
    assert names["fall"].shape == (1, 8) and names["fall"].isfinite().all()
    for scores in (names["values"].get_n_order_values(1), names["owen"].values):
        assert np.ptp(np.asarray(scores)) > 0


OBLONG = torch.rand(3, 16, 12, generator=torch.Generator().manual_seed(0))
SEGMENTS = Segments.patches(OBLONG[None], 8)
VISIBLE = SEGMENTS.visible(0, all_coalitions(4))
WITH_NAN = torch.where(VISIBLE, OBLONG, torch.nan)
STATISTICS = (0.5,) * 3, (0.25,) * 3


@pytest.fixture(scope="module")
def small_network():
    return seeded(lambda: build_network("small_resnet", 5).eval())


@pytest.fixture(params=["black", "uniform_noise", "layer_masking"])
def asked(small_network, request):
    return predictor(
        LayerMasking(small_network) if request.param == "layer_masking" else small_network, request.param, *STATISTICS
    )


@pytest.mark.parametrize("scale", ["probability", "logit", "log_odds"])
def test_every_form_of_a_question_has_the_answer_of_ask(small_network, scale):
    asked = predictor(LayerMasking(small_network), "layer_masking", *STATISTICS)
    expected = ask(asked, OBLONG, Queries.of(VISIBLE), scale=scale)
    arrays = WITH_NAN.permute(0, 2, 3, 1).double().numpy()
    found = {
        "map": visibility_forward(asked, OBLONG, scale=scale)(VISIBLE.float()),
        "map of every channel": visibility_forward(asked, OBLONG, scale=scale)(VISIBLE.double().expand(-1, 3, -1, -1)),
        "images": NanNetwork(asked, scale=scale)(WITH_NAN).detach(),
        "arrays": nan_classifier(asked, scale=scale)(arrays),
    }
    for name, answers in found.items():
        np.testing.assert_allclose(answers, expected, atol=1e-5, err_msg=name)
    assert np.ptp(expected, axis=0).max() > 1e-2


def test_an_answer_depends_on_the_map_alone_and_random_fills_on_the_key(asked):
    maps = VISIBLE.float()
    arrays = WITH_NAN.permute(0, 2, 3, 1).numpy()
    for key in (0, 7):
        forward, classify = visibility_forward(asked, OBLONG, key), nan_classifier(asked, key)
        one_by_one = torch.cat([forward(maps[each : each + 1]) for each in reversed(range(16))]).flip(0)
        np.testing.assert_allclose(one_by_one, forward(maps), atol=1e-6)
        np.testing.assert_allclose(classify(arrays[::-1])[::-1], forward(maps), atol=1e-6)


def test_a_pixel_is_hidden_where_any_channel_is_nan(small_network):
    network_of_nan = NanNetwork(predictor(LayerMasking(small_network), "layer_masking", *STATISTICS))
    one_channel = torch.where(VISIBLE.expand(-1, 3, -1, -1) | (torch.arange(3) != 1)[:, None, None], OBLONG, torch.nan)
    assert torch.equal(network_of_nan(one_channel), network_of_nan(WITH_NAN))


def test_gradients_of_images_with_nan_are_finite_and_zero_where_hidden(small_network):
    images = WITH_NAN.clone().requires_grad_()
    NanNetwork(predictor(LayerMasking(small_network), "layer_masking", *STATISTICS), scale="logit")(images)[
        :, 0
    ].sum().backward()
    assert images.grad.isfinite().all() and images.grad.abs().max() > 0
    assert not images.grad[~VISIBLE.expand_as(images)].any()
