"""Measures of explanations: against their formulas, and on networks whose truth is known."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch

from maskrobust import Segments, SilhouetteBank, ask
from maskrobust.augment import Batch
from maskrobust.lm_modules.explanation.answers import Queries
from maskrobust.lm_modules.explanation.explained import Explained, ExplainedImage, Judged
from maskrobust.lm_modules.explanation.explaining import ExplanationRequest, explain_image
from maskrobust.lm_modules.explanation.judges.ablation import ablate, ablation_queries
from maskrobust.lm_modules.explanation.judges.agreement import evenness, mean_rank_correlation, rank_correlation
from maskrobust.lm_modules.explanation.judges.decoys import draw_decoy
from maskrobust.lm_modules.explanation.judges.localisation import (
    areas,
    centred_cosine,
    highest_on_object,
    object_fractions,
    overlap_of_highest,
    win_fractions,
)
from maskrobust.lm_modules.explanation.judges.registry import DECOYS, JUDGES, ImageToJudge
from maskrobust.lm_modules.explanation.judges.truth import place_of_cue, plant_cue, true_effects
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


def silhouettes():
    """A square of class 0, a plus of class 1, a bar of class 2."""
    masks = torch.zeros(3, 1, SIDE, SIDE, dtype=torch.bool)
    masks[0, 0] = torch.from_numpy(OBJECT)
    masks[1, 0, 12:21, 15:18] = masks[1, 0, 15:18, 12:21] = True
    masks[2, 0, 5:8, 2:20] = True
    nothing = torch.zeros(3, 3, SIDE, SIDE)
    return SilhouetteBank.from_batches([Batch(torch.arange(3), nothing, masks, torch.arange(3))])


@pytest.mark.parametrize("key", range(12))
def test_a_decoy_has_the_shape_of_another_class_and_does_not_touch_the_object(key):
    decoy = draw_decoy(key, OBJECT, 0, silhouettes())
    assert decoy.label in (1, 2) and not (decoy.inside & np.pad(OBJECT, 1)[2:, 1:-1]).any()
    shape = decoy.inside[np.ix_(decoy.inside.any(axis=1), decoy.inside.any(axis=0))]
    assert shape.sum() in ({45} if decoy.label == 1 else {54, 28, 9, 18}) or shape.shape[0] < 9
    segments = PATCHES.with_first(OBJECT, decoy.inside)
    labels = segments.labels[0].numpy()
    assert np.array_equal(labels == 0, OBJECT) and np.array_equal(labels == 1, decoy.inside)


def judged(predict, methods=1, without=None, **judging):
    decoy = draw_decoy(3, OBJECT, 0, silhouettes())
    partitions = {"patches": PATCHES, DECOYS: PATCHES.with_first(OBJECT, decoy.inside)}
    classes = [0, decoy.label, 3 - decoy.label, 3]
    predictors = [[lambda *given: predict(decoy, *given)] * methods]
    request = ExplanationRequest(IMAGE, predictors, PLAN, 5)
    found = explain_image(request, partitions, classes)
    how = JudgingPlan(**{"stability_seeds": 1, **judging})
    names = ("black", "mean")[:methods]
    return judge_image(ImageToJudge(found, request, partitions, OBJECT, how, names, without))


def value(found, explainer, judge, partition="patches", **parameters):
    """What a judge says of one explainer; None where it says nothing."""
    return found.judged.get(Judged(partition, explainer, judge, tuple(parameters.items())))


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


def object_reader(decoy, images, visible, keys):
    """Class 0 by the share of the object that is visible, nothing else."""
    inside = torch.from_numpy(OBJECT)
    logits = torch.zeros(len(images), 4)
    logits[:, 0] = 4 * visible[:, 0][:, inside].float().mean(dim=1)
    return logits


def outline_reader(decoy, images, visible, keys):
    """As `object_reader`, and the class of the decoy's shape by how much of its shape is hidden."""
    logits = object_reader(decoy, images, visible, keys)
    logits[:, decoy.label] += 1 - visible[:, 0][:, torch.from_numpy(decoy.inside)].float().mean(dim=1)
    return logits


def test_the_decoy_pull_is_that_of_the_network():
    for predict, pull in ((object_reader, 0.0), (outline_reader, 0.25)):
        found = judged(predict)
        for explainer in ("kernel_shap", "leave_one_out"):
            parts = value(found, explainer, "decoy_pull", DECOYS)
            assert parts.shape == (1, 1, 2)
            np.testing.assert_allclose(parts[0, 0], (4 * pull, 4), atol=1e-5)
        above, below = value(found, "leave_one_out", "decoy_share", DECOYS)[0, 0] if pull else (1, 1)
        assert above == pytest.approx(1) and below == pytest.approx(1)
        assert value(found, "occlusion", "decoy_pull", DECOYS) is None


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
    found = judged(object_reader, methods=2, stability_seeds=3, fill_colours=True, planted_cue=True)
    about = partial(value, found, "kernel_shap")
    np.testing.assert_allclose(about("coverage"), np.sqrt(0.75))  # the object is a quarter of the image
    assert (about("pointing") == 1).all()
    assert (about("win_share") == 0.5).all() and (about("fidelity") > 0.999).all()
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
    assert arrays.keys() == others.keys() and len(arrays) > 100
    assert all(np.array_equal(arrays[name], others[name], equal_nan=arrays[name].dtype.kind == "f") for name in arrays)


def test_oracle_removal_is_the_network_on_the_rendered_picture():
    weights = torch.randn(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))

    def linear(_decoy, images, visible, keys):
        return torch.einsum("bchw,kchw->bk", images * visible, weights)

    without = torch.where(torch.from_numpy(OBJECT), 0.0, IMAGE)
    effects = true_effects(partial(linear, None), IMAGE, without, PATCHES, 2, 3, "logit")
    gone = (IMAGE - without) * weights[2]
    for segment in range(16):
        assert effects[segment] == pytest.approx(float(gone[:, PATCHES.labels[0] == segment].sum()), abs=1e-3)
    found = judged(linear, without=without)
    assert value(found, "leave_one_out", "oracle").shape == (1, 1)
    found = judged(object_reader)
    assert np.isnan(value(found, "leave_one_out", "oracle")).all()


def test_hiding_in_order_gives_the_mean_over_the_hidden_area():
    order = [5, 0, 3, 9, 1, 2, 4, 6, 7, 8, 10, 11, 12, 13, 14, 15]

    def predict(images, visible, keys):
        share = visible.float().mean(dim=(1, 2, 3))
        return torch.stack([share.square(), torch.zeros_like(share)], dim=1)

    scores = -np.argsort(order).astype(float)
    found = ablate(
        {"lime": scores[None, None]}, ExplanationRequest(IMAGE, [[predict]], PLAN, 0), PATCHES, 0, (1, 3, 17)
    )["lime"]
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
    for k, removed, kept in zip((1, 3), found["top_k_removed"][0, 0, 0], found["top_k_kept"][0, 0, 0], strict=False):
        assert removed == pytest.approx(1 / (1 + np.exp(-((1 - k / 16) ** 2))), abs=1e-6)
        assert kept == pytest.approx(1 / (1 + np.exp(-((k / 16) ** 2))), abs=1e-6)
    assert np.isnan(found["top_k_removed"][..., 2]).all() and np.isnan(found["top_k_kept_accuracy"][..., 2]).all()


def test_the_top_k_are_removed_and_kept_by_each_explanation_under_each_method_and_nothing_is_asked_twice():
    asked = [[], []]
    scores = {name: np.random.default_rng(i).normal(size=(1, 2, 16)) for i, name in enumerate(("lime", "rise"))}

    def additive(method, images, visible, keys):
        asked[method].extend(visible.flatten(1).numpy().tobytes()[i * 576 : (i + 1) * 576] for i in range(len(visible)))
        z = visible[:, 0, ::6, ::6].flatten(1).float()
        logit = z @ torch.from_numpy(scores["lime"][0, method]).float()
        return torch.stack([torch.zeros_like(logit), logit], dim=1)

    predictors = [[partial(additive, 0), partial(additive, 1)]]
    found = ablate(scores, ExplanationRequest(IMAGE, predictors, PLAN, 0), PATCHES, 1, (2, 5))
    for name, explained, evaluated, (place, k) in itertools.product(scores, (0, 1), (0, 1), enumerate((2, 5))):
        top = set(np.argsort(-scores[name][0, explained])[:k].tolist())
        effects = scores["lime"][0, evaluated]
        for which, seen in (("removed", set(range(16)) - top), ("kept", top)):
            logit = sum(effects[each] for each in seen)
            at = 0, explained, evaluated, place
            assert found[name][f"top_k_{which}"][at] == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)
            assert found[name][f"top_k_{which}_accuracy"][at] == (logit > 0)
    assert all(len(set(each)) == len(each) <= 4 * (2 * 9 + 4) + 2 for each in asked)


def red_reader(_decoy, images, visible, keys):
    """Class 1 by how much red there is in the picture with a black hole; class 0 else."""
    red = (images * visible)[:, 0]
    return torch.stack([torch.ones(len(images)), red.sum(dim=(1, 2)) / 10], dim=1)


def test_the_consistency_of_fill_colours_is_that_of_the_true_effects_under_each_colour():
    weights = torch.randn(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))

    def linear(_decoy, images, visible, keys):
        return torch.einsum("bchw,kchw->bk", images * visible, weights)

    found = judged(linear, methods=2, fill_colours=True)
    effects = []
    for colour in itertools.product((0, 1), repeat=3):
        change = ((IMAGE - torch.tensor(colour)[:, None, None]) * weights[0]).sum(dim=0)
        effects.append([float(change[PATCHES.labels[0] == segment].sum()) for segment in range(16)])
    consistency = value(found, "leave_one_out", "colour_consistency")
    assert consistency.shape == (1, 1) and consistency[0, 0] == pytest.approx(mean_rank_correlation(np.array(effects)))
    found = judged(object_reader, fill_colours=True)  # which sees no colour
    assert np.isnan(value(found, "leave_one_out", "colour_consistency")).all()


@pytest.mark.parametrize("key", range(6))
def test_a_planted_cue_changes_the_prediction_beside_the_object_and_has_the_highest_score(key):
    black, predict = torch.zeros_like(IMAGE), partial(red_reader, None)
    cue = plant_cue(key, black, OBJECT, predict, 4)
    everything = torch.ones(1, 1, SIDE, SIDE, dtype=torch.bool)
    assert predict(black[None], everything, None).argmax() == 0 and cue.label == 1
    assert predict(cue.image[None], everything, None).argmax() == 1
    assert not (cue.inside & OBJECT).any() and cue.inside.sum() == 36
    assert torch.equal((cue.image != black).any(dim=0) & ~torch.from_numpy(cue.inside), torch.zeros(SIDE, SIDE).bool())
    partition = {"cue": PATCHES.with_first(cue.inside)}
    found = explain_image(ExplanationRequest(cue.image, [[predict]], PLAN, 0), partition, [1])
    scores = found.explanations[Explained("cue", "leave_one_out")].scores[0, 0, :, 0]
    assert scores[0] == pytest.approx(float(cue.image[0].sum()) / 10, abs=1e-5) and place_of_cue(scores) == (1, 1)


def test_there_is_no_planted_cue_where_the_prediction_stays_or_there_is_no_room():
    assert plant_cue(0, IMAGE, OBJECT, partial(object_reader, None), 8) is None
    assert plant_cue(0, IMAGE, np.ones_like(OBJECT), partial(red_reader, None), 8) is None
    found = judged(object_reader, planted_cue=True)
    area = value(found, "lime", "cue_auc")
    assert area.shape == (1, 1) and np.isnan(area).all()


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
    assert win_fractions(np.array([0.2, 0.7, 0.7])).tolist() == [0, 0.5, 0.5]
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
    assert place_of_cue(few + noise[0]) == place_of_cue(few) == (1 - 1 / 15, 2)
    assert win_fractions(0.5 + noise[0, :2]).tolist() == [0.5, 0.5]
    assert torch.equal(ablation_queries(few + noise[0], PATCHES, (4,)), ablation_queries(few, PATCHES, (4,)))


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
