"""Explainers of other libraries run under layer masking, and say what ours say where both compute the same."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maskrobust import (
    LayerMasking,
    Segments,
    all_coalitions,
    ask,
    build_network,
    coalition_game,
    kernel_shap,
    leave_one_out,
    lime,
    nan_classifier,
    occlusion,
    predictor,
    visibility_forward,
)
from tests.pages.commands import blocks

PAGE = Path(__file__).parents[3] / "docs" / "explainers-of-others.md"
IMAGE = torch.rand(3, 24, 24, generator=torch.Generator().manual_seed(0))
PIXELS = IMAGE.permute(1, 2, 0).double().numpy()
EVERYTHING = torch.ones(1, 1, 24, 24)
NINTHS = Segments.patches(IMAGE[None], 8)
CLASS = 1
ROOT_TWO = 2**0.5

importing_shap_warns = pytest.mark.filterwarnings(
    "ignore:The set_bad function will be deprecated in a future version",  # matplotlib's words to shap
    "ignore:The set_over function will be deprecated in a future version",
    "ignore:The set_under function will be deprecated in a future version",
)


@pytest.fixture(scope="module")
def predict():
    """A small ResNet under layer masking whose logits differ by about 1, so that tolerances mean something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network("small_resnet", 4).eval()
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


def shapley_values(predict, segments):
    z = all_coalitions(segments.count(0))
    return kernel_shap(z, ask(predict, IMAGE, segments.queries(0, z))).scores


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


def test_coefficients_are_those_of_captums_kernel_shap_on_its_coalitions(predict):
    captum = pytest.importorskip("captum.attr")
    forward = Recorded(visibility_forward(predict, IMAGE))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = captum.KernelShap(forward).attribute(
            EVERYTHING,
            target=CLASS,
            feature_mask=NINTHS.labels[:, None],
            n_samples=100,
            perturbations_per_eval=7,
            return_input_shape=False,
        )
    z = queries_of(np.concatenate(forward.given)[:, 0] == 1, NINTHS)
    ours = kernel_shap(z, np.concatenate(forward.answers), drawn_by_kernel=True)
    # Captum solves in float32, and weighs everything and nothing by 10^6 where we fix them.
    np.testing.assert_allclose(ours.scores[:, CLASS], theirs[0], atol=1e-5)
    assert np.ptp(theirs[0].numpy()) > 0.02


@pytest.mark.parametrize("perturbations_per_eval", [1, 3])
def test_captums_feature_ablation_is_our_occlusion_of_segments(predict, perturbations_per_eval):
    captum = pytest.importorskip("captum.attr")
    theirs = captum.FeatureAblation(visibility_forward(predict, IMAGE)).attribute(
        EVERYTHING,
        target=CLASS,
        feature_mask=NINTHS.labels[:, None],
        perturbations_per_eval=perturbations_per_eval,
    )
    ours = occlusion(ask(predict, IMAGE, NINTHS.queries(0, leave_one_out(9))))
    np.testing.assert_allclose(NINTHS.heat_map(0, ours)[..., CLASS], theirs[0, 0], atol=1e-6)
    assert np.ptp(ours[:, CLASS]) > 0.02


def test_shapiqs_shapley_values_are_ours_of_all_coalitions(predict):
    shapiq = pytest.importorskip("shapiq")
    game = coalition_game(predict, IMAGE, NINTHS, CLASS)
    ours = shapley_values(predict, NINTHS)[:, CLASS]
    exact = shapiq.ExactComputer(game, 9)("SV", 1).get_n_order_values(1)
    np.testing.assert_allclose(ours, exact, atol=1e-6)
    everything = shapiq.KernelSHAP(n=9, random_state=0).approximate(2**9, game).get_n_order_values(1)
    np.testing.assert_allclose(ours, everything, atol=1e-5)
    assert np.ptp(ours) > 0.02


@importing_shap_warns
def test_the_code_of_the_page_runs_and_gives_the_shapes_it_says(capsys):
    for library in ("captum", "lime", "shap", "shapiq"):
        pytest.importorskip(library)
    names: dict[str, Any] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for block in blocks(PAGE):
            exec(compile(block.text, PAGE.name, "exec"), names)
    printed = ["(1, 1, 48, 48)", "16", "(1, 48, 48, 3, 8)", "(16,) (16, 16)"]
    assert capsys.readouterr().out.splitlines() == printed
    assert names["fall"].shape == (1, 8) and names["fall"].isfinite().all()
    for scores in (names["ablation"], names["shapley"], names["lime_of_captum"], names["owen"].values):
        assert np.ptp(np.asarray(scores)) > 0
