"""Measures of explanations: against their formulas, and on networks whose truth is known."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from maskrobust import Segments, SilhouetteBank, ask
from maskrobust.augment import Batch
from maskrobust.lm_modules.explanation.ablation import ablate
from maskrobust.lm_modules.explanation.answers import Queries
from maskrobust.lm_modules.explanation.decoys import draw_decoy
from maskrobust.lm_modules.explanation.explaining import Inquiry, explain_image
from maskrobust.lm_modules.explanation.judged_image import CUE, DECOYS, judge_image, with_own_class_alone
from maskrobust.lm_modules.explanation.judged_rows import CIRCULAR, judged_rows
from maskrobust.lm_modules.explanation.judging import (
    MEASURES,
    coverage,
    jaccard,
    mean_rank_correlation,
    object_shares,
    place_of_cue,
    pointing,
    true_effects,
    win_shares,
)
from maskrobust.lm_modules.explanation.plan import ExplanationPlan, JudgingPlan
from maskrobust.lm_modules.explanation.planted import plant_cue

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


def test_there_is_no_decoy_where_there_is_no_room_or_no_other_class():
    assert draw_decoy(0, np.ones((SIDE, SIDE), dtype=bool), 0, silhouettes()) is None
    bank = silhouettes()
    alone = SilhouetteBank(bank.object_masks[:1], bank.labels[:1], bank.ids[:1])
    assert draw_decoy(0, OBJECT, 0, alone) is None


def judged(predict, methods=1, without=None, **judging):
    decoy = draw_decoy(3, OBJECT, 0, silhouettes())
    partitions = {"patches": PATCHES, DECOYS: PATCHES.with_first(OBJECT, decoy.inside)}
    classes = [0, decoy.label, 3 - decoy.label, 3]
    predictors = [[lambda *given: predict(decoy, *given)] * methods]
    inquiry = Inquiry(IMAGE, predictors, PLAN, 5)
    found = explain_image(inquiry, partitions, classes)
    how = JudgingPlan(**{"stability_seeds": 1, **judging})
    return found, judge_image(found, inquiry, partitions, OBJECT, how, without=without)


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
        _, found = judged(predict)
        for explainer in ("kernel_shap", "leave_one_out"):
            parts = found[f"{DECOYS}/{explainer}/judged/decoy_pull"]
            assert parts.shape == (1, 1, 2)
            np.testing.assert_allclose(parts[0, 0], (4 * pull, 4), atol=1e-5)
        above, below = found[f"{DECOYS}/leave_one_out/judged/decoy_share"][0, 0] if pull else (1, 1)
        assert above == pytest.approx(1) and below == pytest.approx(1)
        assert f"{DECOYS}/occlusion/judged/decoy_pull" not in found


def test_explanations_of_the_object_cover_it_and_are_stable_and_agree():
    _, found = judged(object_reader, methods=2, stability_seeds=3, fill_colours=True, planted_cue=True)
    about = "patches/kernel_shap/judged"
    assert (found[f"{about}/coverage"] > 0.9).all() and (found[f"{about}/pointing"] == 1).all()
    assert (found[f"{about}/win_share"] == 0.5).all() and (found[f"{about}/fidelity"] > 0.999).all()
    assert (found[f"{about}/agreement"] > 0.5).all() and (found[f"{about}/stability"] > 0.5).all()
    assert "patches/leave_one_out/judged/stability" not in found and "patches/rise/judged/fidelity" not in found
    assert found[f"{about}/deletion"].shape == (1, 2, 2)
    assert (found[f"{about}/insertion_minus_deletion"] > 0.1).all()
    assert {name.rpartition("/")[2] for name in found} == MEASURES.keys()
    assert found["patches/lime/curves/deletion"].shape == (1, 2, 2, 11)


def test_oracle_removal_is_the_network_on_the_rendered_picture():
    weights = torch.randn(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))

    def linear(_decoy, images, visible, keys):
        return torch.einsum("bchw,kchw->bk", images * visible, weights)

    without = torch.where(torch.from_numpy(OBJECT), 0.0, IMAGE)
    effects = true_effects(partial(linear, None), IMAGE, without, PATCHES, 2, 3, "logit")
    gone = (IMAGE - without) * weights[2]
    for segment in range(16):
        assert effects[segment] == pytest.approx(float(gone[:, PATCHES.labels[0] == segment].sum()), abs=1e-3)
    _, found = judged(linear, without=without)
    assert found["patches/leave_one_out/judged/oracle"].shape == (1, 1)
    _, found = judged(object_reader)
    assert np.isnan(found["patches/leave_one_out/judged/oracle"]).all()


def test_only_the_first_class_is_kept_but_of_decoys():
    found, _ = judged(object_reader)
    kept = with_own_class_alone(found)
    assert kept["patches/lime/scores"].shape[-1] == 1 and kept["whole"].shape == (1, 1)
    assert kept[f"{DECOYS}/lime/scores"].shape[-1] == 4 and kept[f"{DECOYS}/classes"].shape == (4,)


def test_hiding_in_order_gives_the_mean_over_the_hidden_area():
    order = [5, 0, 3, 9, 1, 2, 4, 6, 7, 8, 10, 11, 12, 13, 14, 15]

    def predict(images, visible, keys):
        share = visible.float().mean(dim=(1, 2, 3))
        return torch.stack([share.square(), torch.zeros_like(share)], dim=1)

    scores = -np.argsort(order).astype(float)
    found = ablate({"lime": scores[None, None]}, Inquiry(IMAGE, [[predict]], PLAN, 0), PATCHES, 0, (1, 3, 17))["lime"]
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
    found = ablate(scores, Inquiry(IMAGE, predictors, PLAN, 0), PATCHES, 1, (2, 5))
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

    _, found = judged(linear, methods=2, fill_colours=True)
    effects = []
    for colour in itertools.product((0, 1), repeat=3):
        change = ((IMAGE - torch.tensor(colour)[:, None, None]) * weights[0]).sum(dim=0)
        effects.append([float(change[PATCHES.labels[0] == segment].sum()) for segment in range(16)])
    value = found["patches/leave_one_out/judged/colour_consistency"]
    assert value.shape == (1, 1) and value[0, 0] == pytest.approx(mean_rank_correlation(np.array(effects)))
    _, found = judged(object_reader, fill_colours=True)  # which sees no colour
    assert np.isnan(found["patches/leave_one_out/judged/colour_consistency"]).all()


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
    scores = explain_image(Inquiry(cue.image, [[predict]], PLAN, 0), partition, [1])["cue/leave_one_out/scores"][
        0, 0, :, 0
    ]
    assert scores[0] == pytest.approx(float(cue.image[0].sum()) / 10, abs=1e-5) and place_of_cue(scores) == (1, 1)


def test_there_is_no_planted_cue_where_the_prediction_stays_or_there_is_no_room():
    assert plant_cue(0, IMAGE, OBJECT, partial(object_reader, None), 8) is None
    assert plant_cue(0, IMAGE, np.ones_like(OBJECT), partial(red_reader, None), 8) is None
    _, found = judged(object_reader, planted_cue=True)
    value = found[f"{CUE}/lime/judged/cue_auc"]
    assert value.shape == (1, 1) and np.isnan(value).all()


def test_the_area_under_roc_is_that_of_scikit_learn():
    for seed in range(20):
        scores = np.random.default_rng(seed).integers(0, 5, 12).astype(float)
        area, rank = place_of_cue(scores)
        assert area == pytest.approx(roc_auc_score([1, *[0] * 11], scores))
        assert rank == pytest.approx(stats.rankdata(-scores)[0])


def test_localisation_is_by_its_formulas():
    shares = object_shares(PATCHES, OBJECT)
    assert shares.sum() * 36 == OBJECT.sum() and shares[0] == pytest.approx(25 / 36)
    scores = np.arange(16.0)
    assert coverage(scores, shares) == pytest.approx(scores @ shares / np.sqrt((scores @ scores) * (shares @ shares)))
    half = np.array([0.9, 0.6, 0.1, 0.0])
    assert jaccard(np.array([3.0, 1.0, 2.0, 0.0]), half) == pytest.approx(1 / 3)
    assert pointing(np.array([3.0, 1.0, 2.0, 0.0]), half) == 1 and pointing(np.array([3.0, 0, 3.0, 0]), half) == 0.5
    assert np.isnan(pointing(scores, np.zeros(16))) and np.isnan(jaccard(scores, np.zeros(16)))
    assert win_shares(np.array([0.2, 0.7, 0.7])).tolist() == [0, 0.5, 0.5]
    assert mean_rank_correlation(np.array([[1.0, 2, 3], [1.0, 2, 4], [3.0, 2, 1]])) == pytest.approx(-1 / 3)


def test_rows_are_means_over_objects_with_paired_differences():
    generator = np.random.default_rng(0)
    objects = np.repeat(np.arange(60), 2)
    base = generator.normal(size=120)
    values = np.stack([base, base + 0.5 + 0.1 * generator.normal(size=120)], axis=1)[:, None]  # (N, R, T)
    values[7] = np.nan  # one of the two pictures of object 3
    images = [{"slic/lime/judged/coverage": each} for each in values]
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


def test_what_is_evaluated_under_its_own_method_is_called_circular():
    images = [{"slic/lime/judged/deletion": np.random.default_rng(i).random((1, 2, 2))} for i in range(9)]
    rows = [*judged_rows(images, np.arange(9), ("net",), ("black", "mean"), replicates=50)]
    alone = [row for row in rows if "minus" not in row.parameters]
    assert [(row.method, row.parameters["evaluated_under"]) for row in alone if row.reading == CIRCULAR] == [
        ("black", "black"),
        ("mean", "mean"),
    ]
    own = next(row for row in alone if row.method == "black" and row.parameters["evaluated_under"] == "mean")
    assert own.value == pytest.approx(np.mean([each["slic/lime/judged/deletion"][0, 0, 1] for each in images]))


def test_rows_of_the_top_k_say_k_and_those_of_colours_no_masking_method():
    generator = np.random.default_rng(0)
    kept = generator.random((30, 1, 2, 2, 3))
    kept[..., 2] = np.nan
    colours = generator.random((30, 1, 1))
    images = [
        {"slic/lime/judged/top_k_kept": each, "slic/lime/judged/colour_consistency": colour}
        for each, colour in zip(kept, colours, strict=True)
    ]
    rows = [*judged_rows(images, np.arange(30), ("net",), ("black", "mean"), top_k=(1, 5, 50), replicates=50)]
    about = {"segments": "slic", "explainer": "lime", "evaluated_under": "black", "k": 5}
    own = [row for row in rows if row.parameters == about]
    assert [row.method for row in own] == ["black", "mean"] and [row.reading for row in own] == [CIRCULAR, ""]
    assert own[1].value == pytest.approx(kept[:, 0, 1, 0, 1].mean())
    assert all(row.value is None and row.left_out == 30 for row in rows if row.parameters.get("k") == 50)
    (row,) = (row for row in rows if row.measure == "colour_consistency")
    assert row.method == "constant_colours" and row.value == pytest.approx(colours.mean())


def test_a_ratio_is_undefined_where_the_object_has_no_effect_of_its_own():
    generator = np.random.default_rng(0)
    for effect, defined in ((3.0, True), (0.0, False)):
        parts = np.stack([np.ones(40), effect + generator.normal(size=40)], axis=1)[:, None, None]
        images = [{"decoys/lime/judged/decoy_pull": each} for each in parts]
        (row,) = judged_rows(images, np.arange(40), ("net",), ("black",), replicates=200)
        assert (row.value is not None) == defined
        if defined:
            assert row.value == pytest.approx(1 / parts[:, 0, 0, 1].mean())
