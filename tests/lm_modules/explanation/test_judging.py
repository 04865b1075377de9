"""Measures of explanations: against their formulas, and on networks whose truth is known."""

import numpy as np
import pytest
import torch

from maskrobust import Segments
from maskrobust.lm_modules.explanation.explained import ExplainedImage, Judged
from maskrobust.lm_modules.explanation.explaining import ExplanationRequest, explain_image
from maskrobust.lm_modules.explanation.judging import (
    JUDGES,
    centred_cosine,
    evenness,
    judge_image,
    judged_rows,
    overlap_of_highest,
    rank_correlation,
)
from maskrobust.lm_modules.explanation.overlays import shown_scores
from maskrobust.lm_modules.explanation.plan import ExplanationPlan

SIDE = 24
IMAGE = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
PATCHES = Segments.patches(IMAGE[None], 6)
OBJECT = np.zeros((SIDE, SIDE), dtype=bool)
OBJECT[1:11, 1:11] = True
PLAN = ExplanationPlan(samples=128, scale="logit", window=6)


def images_with(values):
    """Images of which nothing is known but their coverage (N, R, T)."""
    nothing = np.zeros(0)
    about = Judged("slic", "lime", "coverage")
    return [ExplainedImage(nothing, nothing, nothing, nothing, judged={about: each}) for each in values]


def object_reader(images, visible, keys):
    """Class 0 by the share of the object that is visible, nothing else."""
    inside = torch.from_numpy(OBJECT)
    logits = torch.zeros(len(images), 4)
    logits[:, 0] = 4 * visible[:, 0][:, inside].float().mean(dim=1)
    return logits


def test_coverage_is_the_cosine_over_pixels_with_the_centred_mask():
    labels, inside = np.repeat([0, 1, 2, 3], [6, 2, 3, 1]), np.array([1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 1, 0], bool)
    sizes, scores = np.array([6.0, 2, 3, 1]), np.array([0.5, -1.0, 2.0, 0.25])
    fractions = np.array([inside[labels == each].mean() for each in range(4)])
    by_pixel, mask = scores[labels], fractions[labels] - inside.mean()
    expected = by_pixel @ mask / np.linalg.norm(by_pixel) / np.linalg.norm(mask)
    assert centred_cosine(scores, fractions, sizes) == pytest.approx(expected, abs=1e-12)
    assert centred_cosine(np.ones(4), fractions, sizes) == pytest.approx(0, abs=1e-12)
    assert centred_cosine(fractions - inside.mean(), fractions, sizes) == pytest.approx(1)
    assert np.isnan(centred_cosine(np.zeros(4), fractions, sizes))


def test_explanations_of_a_network_that_reads_the_object_cover_it():
    """Windows are the patches, so occlusion knows the truth: a patch's fraction of the object."""
    request = ExplanationRequest(IMAGE, [[object_reader] * 2], PLAN, 5)
    explained = explain_image(request, {"patches": PATCHES}, [0])
    found = judge_image(explained, OBJECT)
    assert {each.judge for each in found} == JUDGES.keys()
    assert {each.explainer for each in found if each.judge == "fidelity"} == {"lime"}
    assert all(values.shape == (1, 2) for values in found.values())
    fractions = np.array([OBJECT[PATCHES.labels[0].numpy() == each].mean() for each in range(16)])
    exact = centred_cosine(fractions, fractions, np.full(16, 36.0))
    assert 0.8 < exact < 0.9
    np.testing.assert_allclose(found[Judged("patches", "occlusion", "coverage")], exact, atol=1e-5)
    assert (found[Judged("patches", "occlusion", "jaccard")] == 1).all()
    assert (found[Judged("patches", "lime", "fidelity")] > 0.95).all()
    arrays = explained.as_arrays()
    assert arrays["explanations/patches/lime/scores"].shape == (1, 2, 16, 1)
    nothing = judge_image(explained, np.zeros_like(OBJECT))
    assert all(np.isnan(values).all() for each, values in nothing.items() if each.judge != "fidelity")


def test_a_fit_worse_than_a_constant_counts_as_no_fidelity():
    request = ExplanationRequest(IMAGE, [[lambda *given: (given[2] % 1009).float()[:, None]]], PLAN, 5)
    explained = explain_image(request, {"patches": PATCHES}, [0])
    assert explained.explanations["patches", "lime"].r_squared[0, 0, 0] < 0
    assert judge_image(explained, OBJECT)[Judged("patches", "lime", "fidelity")] == 0


def test_jaccard_is_of_as_many_segments_as_lie_on_the_object():
    half = np.array([0.9, 0.6, 0.1, 0.0])
    assert overlap_of_highest(np.array([3.0, 1.0, 2.0, 0.0]), half) == pytest.approx(1 / 3)
    assert overlap_of_highest(np.array([3.0, 2.0, 1.0, 0.0]), half) == 1
    assert np.isnan(overlap_of_highest(np.arange(16.0), np.zeros(16)))


def test_scores_are_even_where_all_segments_count_alike_at_any_scale():
    assert evenness(np.full(9, -0.3)) == pytest.approx(1.0) and np.isnan(evenness(np.zeros(9)))
    assert evenness(np.array([1.0, -1.0, 2.0, -2.0])) == 0.0
    scores = np.random.default_rng(0).normal(1.0, 2.0, 1_000)
    expected = scores.mean() ** 2 / (scores.mean() ** 2 + scores.var())
    assert evenness(scores) == pytest.approx(expected)
    assert evenness(-1e-200 * scores) == pytest.approx(expected)


def test_scores_of_rounding_noise_alone_are_shown_as_0_and_others_as_they_are():
    rng = np.random.default_rng(0)
    noise, scores = 1e-7 * rng.normal(size=9), np.append(rng.normal(size=8), 1e-7)
    shown = shown_scores(np.stack([noise, scores]), axis=1)
    assert not shown[0].any() and np.isnan(evenness(shown[0]))
    assert np.array_equal(shown[1], scores)


@pytest.mark.parametrize("seed", range(4))
def test_rounding_noise_decides_no_rank(seed):
    noise = 1e-15 * np.random.default_rng(seed).normal(size=(2, 16))
    few = np.where(np.arange(16) < 3, 1.0, 0.0)  # equal scores where there is an effect, none elsewhere
    other = few + np.where(np.arange(16) == 5, 2.0, 0.0)
    half = np.where(np.isin(np.arange(16), (0, 3, 4, 5)), 0.9, 0.0)
    assert rank_correlation(few + noise[0], other + noise[1]) == rank_correlation(few, other)
    assert np.isnan(rank_correlation(few + noise[0], np.ones(16) + noise[1]))
    assert overlap_of_highest(few + noise[0], half) == overlap_of_highest(few, half) == pytest.approx(2 / 6)


def test_rows_are_means_over_objects_with_paired_differences():
    generator = np.random.default_rng(0)
    objects = np.repeat(np.arange(60), 2)
    base = generator.normal(size=120)
    values = np.stack([base, base + 0.5 + 0.1 * generator.normal(size=120)], axis=1)[:, None]  # (N, R, T)
    values[7] = np.nan  # one of the two pictures of object 3
    images = images_with(values)
    rows = [*judged_rows(images, objects, ("net",), ("black", "mean"))]
    first, second, difference = rows
    means = np.array([np.nanmean(values[objects == each, 0, 0]) for each in range(60)])
    assert first.value == pytest.approx(means.mean()) and first.images == 60 and first.left_out == 0
    assert first.high - first.low == pytest.approx(2 * 1.96 * means.std() / 60**0.5, rel=0.15)
    assert difference.value == pytest.approx(first.value - second.value) and difference.reading == "below"
    assert difference.high - difference.low < 0.1 < first.high - first.low
    assert difference.parameters["minus"] == "mean"
    few = [*judged_rows(images[:20], objects[:20], ("net",), ("black", "mean"))]
    assert few[2].reading == "too few objects"
    alike = base[:, None, None] + np.array([1e-16, 0])
    *_, same = judged_rows(images_with(alike), objects, ("net",), ("black", "mean"))
    assert same.low == same.high == 0 and same.reading == "not settled"
