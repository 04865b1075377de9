"""From an image to an explanation: segments, answers, occlusion, and what layer masking promises."""

import itertools

import numpy as np
import pytest
import torch

from maskrobust import (
    LayerMasking,
    Queries,
    Segments,
    ask,
    build_network,
    draw_independent,
    lime,
    nan_classifier,
    occlusion,
    occlusion_queries,
    predictor,
    visibility_forward,
)
from maskrobust.errors import InputError
from maskrobust.lm_modules.explanation.explanation_plan import ExplanationPlan
from tests.conftest import refused
from tests.lm_modules.masking.networks import seeded
from tests.waits import Waits

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
    z = draw_independent(4, 30, segments.count(0))
    plain, other = (ask(each, IMAGES[0], segments.queries(0, z), batch_size=8) for each in (predict, redrawn))
    assert np.array_equal(plain, other)
    assert all(map(np.array_equal, lime(z, plain), lime(z, other)))
    assert np.ptp(plain, axis=0).max() > 1e-3
    black = ask(predictor(network, "black", (0.5,) * 3, (0.25,) * 3), IMAGES[0], segments.queries(0, z))
    assert not np.allclose(black, plain, atol=1e-3)


@pytest.mark.parametrize(("window", "stride"), [(8, 8), (7, 3), (1, 1), (20, 5)])
def test_occlusion_is_the_mean_fall_over_the_windows_that_hide_a_pixel(window, stride):
    queries = occlusion_queries(24, 20, window, stride)
    visible = queries.visible(torch.arange(len(queries.areas)))
    assert visible[0].all() and torch.equal(queries.areas, visible.flatten(1).sum(dim=1))
    answers = ask(additive, IMAGES[0], queries, scale="logit")
    scores = occlusion(answers, 24, 20, window, stride)
    hidden = ~visible[1:, 0].numpy()
    assert scores.shape == (24, 20, 3) and hidden.any(axis=0).all()
    for row, column in itertools.product(range(0, 24, 4), range(0, 20, 4)):
        falls = answers[0] - answers[1:][hidden[:, row, column]]
        np.testing.assert_allclose(scores[row, column], falls.mean(axis=0), atol=1e-9)


EVERYTHING, Z = Queries.of(torch.ones(3, 1, 24, 20, dtype=torch.bool)), draw_independent(8, 20, 4)
CHANNELS_APART = torch.ones(1, 3, 24, 20) * torch.tensor([1.0, 0, 1])[:, None, None]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: Segments(HALVES + 1), "numbered from 0 without a gap, got 2 of 1 to 2 in image 0"),
        (lambda: Segments(torch.zeros(1, 4, 4, dtype=torch.int64)), "at least two segments, got 1 in image 0"),
        (lambda: Segments.superpixels(IMAGES, "watershed"), "must be one of slic, .* got 'watershed'"),
        (lambda: Segments(HALVES).queries(0, draw_independent(0, 4, 3)), r"z must be bool \(N, 2\)"),
        (lambda: ask(additive, IMAGES, EVERYTHING), r"image must be \(C, H, W\)"),
        (lambda: ask(additive, IMAGES[0], EVERYTHING, scale="odds"), "scale must be one of"),
        (lambda: ask(additive, IMAGES[0] * torch.nan, EVERYTHING), "for 3 of 3 queries"),
        (lambda: occlusion_queries(24, 20, 21, 3), "stride <= window <= 20"),
        (lambda: occlusion(np.zeros((4, 1)), 24, 20, 8, 8), "everything and 9 windows, got 4"),
        (lambda: draw_independent(0, 5, 5, (0.9, 0.2)), "visible_fraction must lie in 0 to 1"),
        (lambda: lime(Z, np.zeros((19, 1))), r"queries must be bool \(N, M\) and answers \(N, K\)"),
        (lambda: lime(Z[:5], np.zeros((5, 1))), "4 segments need at least 6 queries, got 5; draw more"),
        (lambda: lime(Z, np.full((20, 1), np.nan)), "answers must be finite"),
        (lambda: lime(Z, np.zeros((20, 1)), alpha=-1), r"alpha must lie in \[0, inf\)"),
        (lambda: lime(Z[:, [0, 0]], np.zeros((20, 1)), alpha=0), "must tell all segments apart"),
        (lambda: visibility_forward(additive, IMAGES[0])(torch.ones(24, 20)), r"maps must be \(N, 1, 24, 20\)"),
        (lambda: visibility_forward(additive, IMAGES[0])(CHANNELS_APART), "in all channels alike"),
        (lambda: nan_classifier(additive)(np.zeros((1, 16, 12, 3), np.uint8)), "got uint8 .* integers have no NaN"),
        (lambda: nan_classifier(additive)(np.full((1, 16, 12, 3), 200.0)), "got 200 to 200; divide by 255"),
        (lambda: ExplanationPlan(("rise",)), r"explainers must be some of lime, occlusion, got \['rise'\]"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, sentence):
    with refused(InputError, match=sentence):
        call()


def test_log_odds_stay_finite_where_a_probability_rounds_to_one():
    logits = torch.tensor([[80.0, 0.0, -90.0]]).expand(3, -1)
    found = ask(lambda *_: logits, IMAGES[0], EVERYTHING, scale="log_odds")
    np.testing.assert_allclose(found[0], [80.0, -80.0, -170.0], rtol=1e-6)


def test_the_loop_waits_for_no_batch():
    def shown(positions):
        return torch.ones(len(positions), 1, 24, 20, dtype=torch.bool, device="meta")

    image, queries = IMAGES[0].to("meta"), Queries(torch.arange(200), shown)
    with Waits() as waits:
        ask(lambda _images, visible, _keys: visible.flatten(1).float(), image, queries)
    assert waits.found == ["ask: to", "ask: cpu"]
