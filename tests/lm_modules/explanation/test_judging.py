"""Measures of explanations: against their formulas, and on networks whose truth is known."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch

from maskrobust import Segments, ask
from maskrobust.lm_modules.explanation.answers import Queries
from maskrobust.lm_modules.explanation.explained import Explained, ExplainedImage, Judged
from maskrobust.lm_modules.explanation.explaining import ExplanationRequest, explain_image
from maskrobust.lm_modules.explanation.judges.ablation import ablate, ablation_queries
from maskrobust.lm_modules.explanation.judges.agreement import evenness, mean_rank_correlation, rank_correlation
from maskrobust.lm_modules.explanation.judges.localisation import (
    areas,
    centred_cosine,
    highest_on_object,
    object_fractions,
    overlap_of_highest,
)
from maskrobust.lm_modules.explanation.judges.registry import JUDGES, ImageToJudge
from maskrobust.lm_modules.explanation.judging import CIRCULAR, judge_image, judged_rows
from maskrobust.lm_modules.explanation.overlays import shown_scores
from maskrobust.lm_modules.explanation.plan import ExplanationPlan, JudgingPlan

SIDE = 24
IMAGE = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
PATCHES = Segments.patches(IMAGE[None], 6)
OBJECT = np.zeros((SIDE, SIDE), dtype=bool)
OBJECT[1:11, 1:11] = True
PLAN = ExplanationPlan(
    ("lime", "kernel_shap", "leave_one_out", "rise", "occlusion"), samples=128, scale="logit", window=12, stride=6
)


def judged(predict, methods=1, **judging):
    partitions, how = {"patches": PATCHES}, JudgingPlan(**{"stability_seeds": 1, **judging})
    request = ExplanationRequest(IMAGE, [[predict] * methods], PLAN, 5)
    found = explain_image(request, partitions, [0])
    return judge_image(ImageToJudge(found, request, partitions, OBJECT, how, ("black", "mean")[:methods]))


def value(found, explainer, judge, **parameters):
    """What a judge says of one explainer; None where it says nothing."""
    return found.judged.get(Judged("patches", explainer, judge, tuple(parameters.items())))


def images_with(**judged):
    """Images of which nothing is known but values by judge: (parameters, an array with a first axis of images)."""
    nothing = np.zeros(0)
    count = len(next(iter(judged.values()))[1])
    return [
        ExplainedImage(
            nothing, nothing, nothing, nothing,
            judged={
                Judged("slic", "lime", name.partition("__")[0], about): values[i]
                for name, (about, values) in judged.items()
            },
        )
        for i in range(count)
    ]  # fmt: skip


def object_reader(images, visible, keys):
    """Class 0 by the share of the object that is visible, nothing else."""
    inside = torch.from_numpy(OBJECT)
    logits = torch.zeros(len(images), 4)
    logits[:, 0] = 4 * visible[:, 0][:, inside].float().mean(dim=1)
    return logits


def test_coverage_is_the_cosine_over_pixels_with_the_centred_mask():
    labels, inside = np.repeat([0, 1, 2, 3], [6, 2, 3, 1]), np.array([1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 1, 0], bool)
    segments = Segments(torch.from_numpy(labels).reshape(1, 3, 4))
    fractions, scores = object_fractions(segments, inside.reshape(3, 4)), np.array([0.5, -1.0, 2.0, 0.25])
    by_pixel, mask = scores[labels], fractions[labels] - inside.mean()
    expected = by_pixel @ mask / np.linalg.norm(by_pixel) / np.linalg.norm(mask)
    assert centred_cosine(scores, fractions, areas(segments)) == pytest.approx(expected, abs=1e-12)
    assert centred_cosine(np.ones(4), fractions, areas(segments)) == pytest.approx(0, abs=1e-12)
    assert centred_cosine(fractions - inside.mean(), fractions, areas(segments)) == pytest.approx(1)
    assert np.isnan(centred_cosine(np.zeros(4), fractions, areas(segments)))


def test_explanations_of_the_object_cover_it_and_are_stable_and_agree():
    found = judged(object_reader, methods=2, stability_seeds=3)
    about = partial(value, found, "kernel_shap")
    np.testing.assert_allclose(about("coverage"), np.sqrt(0.75))  # the object is a quarter of the image
    assert (about("pointing") == 1).all()
    assert (about("fidelity") > 0.999).all()
    assert (about("agreement") > 0.5).all() and (about("stability") > 0.5).all()
    assert value(found, "leave_one_out", "stability") is None and value(found, "rise", "fidelity") is None
    assert about("deletion", evaluated_under="mean").shape == (1, 2)
    assert (about("insertion_minus_deletion", evaluated_under="black") > 0.1).all()
    assert {each.judge for each in found.judged} == JUDGES.keys()
    assert found.curves[Explained("patches", "lime"), "deletion"].shape == (1, 2, 2, 11)


def test_what_is_known_of_an_image_is_the_same_when_it_is_read_back():
    found = judged(object_reader, methods=2, stability_seeds=2)
    found.segments["maps/a b.png"] = found.segments["patches"]
    again = ExplainedImage.from_arrays(found.as_arrays())
    assert again.segments.keys() == found.segments.keys() and again.judged.keys() == found.judged.keys()
    arrays, others = found.as_arrays(), again.as_arrays()
    assert arrays.keys() == others.keys() and len(arrays) > 60
    assert all(np.array_equal(arrays[name], others[name], equal_nan=arrays[name].dtype.kind == "f") for name in arrays)


def test_hiding_in_order_gives_the_mean_over_the_hidden_area():
    order = [5, 0, 3, 9, 1, 2, 4, 6, 7, 8, 10, 11, 12, 13, 14, 15]

    def predict(images, visible, keys):
        share = visible.float().mean(dim=(1, 2, 3))
        return torch.stack([share.square(), torch.zeros_like(share)], dim=1)

    scores = -np.argsort(order).astype(float)
    found = ablate({"lime": scores[None, None]}, ExplanationRequest(IMAGE, [[predict]], PLAN, 0), PATCHES, 0)["lime"]
    curve, found_mean = found["deletion_curve"][0, 0, 0], found["deletion"][0, 0, 0]
    counts = [round(16 * fraction) for fraction in np.linspace(0, 1, 11)]
    counts = [0, 2, 3, 5, 6, 8, 10, 11, 13, 14, 16] if counts != sorted(counts) else counts
    answers = []
    for count in counts:
        z = torch.ones(1, 16, dtype=torch.bool)
        z[0, order[:count]] = False
        answers.append(ask(predict, IMAGE, Queries.of(PATCHES.visible(0, z)))[0, 0])
    np.testing.assert_allclose(curve, answers, atol=1e-6)
    hidden = np.array(counts) / 16
    expected = sum((hidden[i + 1] - hidden[i]) * (answers[i] + answers[i + 1]) / 2 for i in range(10))
    assert found_mean == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(found["insertion_curve"][0, 0, 0], answers, atol=1e-6)  # the patches are of one size


def test_each_explanation_is_evaluated_under_each_method_and_nothing_is_asked_twice():
    asked = [[], []]
    scores = {name: np.random.default_rng(i).normal(size=(1, 2, 16)) for i, name in enumerate(("lime", "rise"))}

    def additive(method, images, visible, keys):
        asked[method].extend(visible.flatten(1).numpy().tobytes()[i * 576 : (i + 1) * 576] for i in range(len(visible)))
        z = visible[:, 0, ::6, ::6].flatten(1).float()
        logit = z @ torch.from_numpy(scores["lime"][0, method]).float()
        return torch.stack([torch.zeros_like(logit), logit], dim=1)

    predictors = [[partial(additive, 0), partial(additive, 1)]]
    found = ablate(scores, ExplanationRequest(IMAGE, predictors, PLAN, 0), PATCHES, 1)
    for name, explained, evaluated in itertools.product(scores, (0, 1), (0, 1)):
        order, effects = np.argsort(-scores[name][0, explained]), scores["lime"][0, evaluated]
        for which, hidden in (("deletion", order[:8]), ("insertion", order[8:])):  # at half of the area
            logit = effects.sum() - effects[hidden].sum()
            half = found[name][f"{which}_curve"][0, explained, evaluated, 5]
            assert half == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)
    assert all(len(set(each)) == len(each) <= 4 * 2 * 9 + 2 for each in asked)


def test_localisation_is_by_its_formulas():
    shares = object_fractions(PATCHES, OBJECT)
    assert shares.sum() * 36 == OBJECT.sum() and shares[0] == pytest.approx(25 / 36)
    scores = np.arange(16.0)
    half = np.array([0.9, 0.6, 0.1, 0.0])
    assert overlap_of_highest(np.array([3.0, 1.0, 2.0, 0.0]), half) == pytest.approx(1 / 3)
    assert overlap_of_highest(np.array([3.0, 2.0, 1.0, 0.0]), half) == 1
    assert (
        highest_on_object(np.array([3.0, 1.0, 2.0, 0.0]), half) == 1
        and highest_on_object(np.array([3.0, 0, 3.0, 0]), half) == 0.5
    )
    assert np.isnan(highest_on_object(scores, np.zeros(16))) and np.isnan(overlap_of_highest(scores, np.zeros(16)))
    assert mean_rank_correlation(np.array([[1.0, 2, 3], [1.0, 2, 4], [3.0, 2, 1]])) == pytest.approx(-1 / 3)


def test_scores_are_even_where_all_segments_count_alike_at_any_scale():
    assert evenness(np.full(9, -0.3)) == pytest.approx(1.0) and np.isnan(evenness(np.zeros(9)))
    assert evenness(np.array([1.0, -1.0, 2.0, -2.0])) == 0.0
    scores = np.random.default_rng(0).normal(1.0, 2.0, 1_000)
    expected = scores.mean() ** 2 / (scores.mean() ** 2 + scores.var())
    assert evenness(scores) == pytest.approx(expected)
    assert evenness(-1e-200 * scores) == pytest.approx(expected)


@pytest.mark.parametrize("explainer", ["lime", "rise"])
def test_scores_of_rounding_noise_alone_are_shown_as_0_and_others_as_they_are(explainer):
    rng, answer = np.random.default_rng(0), 0.7 * (explainer == "rise")
    noise, scores = 1e-7 * rng.normal(size=9), np.append(rng.normal(size=8), 1e-7)
    shown = shown_scores(explainer, answer + np.stack([noise, scores]), axis=1)
    assert not shown[0].any() and np.isnan(evenness(shown[0]))
    assert shown[1] == pytest.approx(scores - scores.mean() * (explainer == "rise"))


@pytest.mark.parametrize("seed", range(4))
def test_rounding_noise_decides_no_rank(seed):
    noise = 1e-15 * np.random.default_rng(seed).normal(size=(2, 16))
    few = np.where(np.arange(16) < 3, 1.0, 0.0)  # equal scores where there is an effect, none elsewhere
    other = few + np.where(np.arange(16) == 5, 2.0, 0.0)
    half = np.where(np.isin(np.arange(16), (0, 3, 4, 5)), 0.9, 0.0)
    assert rank_correlation(few + noise[0], other + noise[1]) == rank_correlation(few, other)
    assert np.isnan(rank_correlation(few + noise[0], np.ones(16) + noise[1]))
    assert highest_on_object(few + noise[0], half) == highest_on_object(few, half) == pytest.approx(1 / 3)
    assert overlap_of_highest(few + noise[0], half) == overlap_of_highest(few, half) == pytest.approx(2 / 6)
    assert torch.equal(ablation_queries(few + noise[0], PATCHES), ablation_queries(few, PATCHES))


def test_rows_are_means_over_objects_with_paired_differences():
    generator = np.random.default_rng(0)
    objects = np.repeat(np.arange(60), 2)
    base = generator.normal(size=120)
    values = np.stack([base, base + 0.5 + 0.1 * generator.normal(size=120)], axis=1)[:, None]  # (N, R, T)
    values[7] = np.nan  # one of the two pictures of object 3
    images = images_with(coverage=((), values))
    rows = [*judged_rows(images, objects, ("net",), ("black", "mean"), replicates=500)]
    first, second, difference = rows
    means = np.array([np.nanmean(values[objects == each, 0, 0]) for each in range(60)])
    assert first.value == pytest.approx(means.mean()) and first.images == 60 and first.left_out == 0
    assert first.high - first.low == pytest.approx(2 * 1.96 * means.std() / 60**0.5, rel=0.15)
    assert difference.value == pytest.approx(first.value - second.value) and difference.reading == "below"
    assert difference.high - difference.low < 0.1 < first.high - first.low
    assert difference.parameters["minus"] == "mean"
    few = [*judged_rows(images[:20], objects[:20], ("net",), ("black", "mean"), replicates=50)]
    assert few[2].reading == "too few objects"
    alike = base[:, None, None] + np.array([1e-16, 0])
    *_, same = judged_rows(images_with(coverage=((), alike)), objects, ("net",), ("black", "mean"), replicates=50)
    assert same.low == same.high == 0 and same.reading == "not settled"


def test_what_is_evaluated_under_its_own_method_is_called_circular():
    values = np.random.default_rng(0).random((9, 1, 2, 2))
    under = {name: ((("evaluated_under", name),), values[..., i]) for i, name in enumerate(("black", "mean"))}
    images = images_with(**{f"deletion__{name}": each for name, each in under.items()})
    rows = [*judged_rows(images, np.arange(9), ("net",), ("black", "mean"), replicates=50)]
    alone = [row for row in rows if "minus" not in row.parameters]
    assert [(row.method, row.parameters["evaluated_under"]) for row in alone if row.reading == CIRCULAR] == [
        ("black", "black"),
        ("mean", "mean"),
    ]
    own = next(row for row in alone if row.method == "black" and row.parameters["evaluated_under"] == "mean")
    assert own.value == pytest.approx(values[:, 0, 0, 1].mean())
