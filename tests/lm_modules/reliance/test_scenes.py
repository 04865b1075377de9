"""Pairs of shapes in empty pictures: which are drawn, what networks are shown, and what known ones follow."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from maskrobust.augment import Batch, SilhouetteBank
from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.catalogue import Context
from maskrobust.lm_modules.reliance.estimation import Estimate, estimate
from maskrobust.lm_modules.reliance.measurement import Measurement, result_rows
from maskrobust.lm_modules.reliance.measures.empty_scenes import (
    scene_2afc,
    scene_2afc_shown,
    scene_pull,
    scene_share,
)
from maskrobust.lm_modules.reliance.outcomes import PairAnswers
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.lm_modules.reliance.results import only
from maskrobust.lm_modules.reliance.scenes import ScenePairs, ask_pass, mean_pulls, scene_pairs, scene_passes
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from tests.lm_modules.reliance.shapes import (
    NUM_CLASSES,
    SIZE,
    as_logits,
    read_outline,
    shape_bank,
    shape_batch,
)
from tests.lm_modules.reliance.tables import make_outcomes

SCENES = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
BANK = shape_bank(80)


def draw(count: int = 20, seed: int = 0, bank: SilhouetteBank = BANK) -> ScenePairs:
    return scene_pairs(bank, bank.ids, count=count, seed=seed)


def reader(images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
    return as_logits(read_outline(~visible))


def blind(images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
    return torch.randn(1, NUM_CLASSES, generator=torch.Generator().manual_seed(1)).expand(len(images), -1)


def nothing_learned(images: Tensor) -> Tensor:
    return torch.zeros(len(images), NUM_CLASSES)


def ask_pairs(
    pairs: ScenePairs,
    scenes: Tensor | None,
    pixels: dict[int, Tensor],
    predictors: dict[Any, Any],
    plain: dict[Any, Any],
    *,
    seed: int,
) -> dict[Any, PairAnswers]:
    """Every pass, the last first."""
    pictures = pairs.check_scenes(scenes)
    passes = scene_passes(pairs, len(pictures))
    found = [ask_pass(pairs, pictures, rows, pixels, predictors, plain, seed=seed) for rows in passes][::-1]
    return {key: mean_pulls(pairs, len(pictures), [each[key] for each in found]) for key in predictors}


def answers(
    predictor: Callable[[Tensor, Tensor, Tensor], Tensor],
    plain: Callable[[Tensor], Tensor] = nothing_learned,
    pixels: dict[int, Tensor] | None = None,
) -> PairAnswers:
    return ask_pairs(draw(), SCENES, pixels or {}, {"it": predictor}, {"it": plain}, seed=3)["it"]


def radius(mask: np.ndarray) -> float:
    points = np.argwhere(mask)[:, ::-1].astype(np.float32)
    (x, y), _ = cv2.minEnclosingCircle(points)
    return float(np.hypot(*(points - (x, y)).T).max())


def test_pairs_are_of_two_classes_and_alike_in_area_and_circle() -> None:
    pairs = draw()
    assert len(pairs) == 20
    masks = dict(zip(BANK.ids.tolist(), BANK.object_masks[:, 0].numpy(), strict=True))
    assert all(label_j != label_k for label_j, label_k in pairs.labels.tolist())
    for j, k in pairs.samples.tolist():
        for size in (np.sum, radius):
            assert max(size(masks[j]), size(masks[k])) <= 1.05 * min(size(masks[j]), size(masks[k])) + 1e-6
    assert len({tuple(both) for both in pairs.samples.tolist()}) == 20
    assert torch.equal(draw().samples, pairs.samples) and not torch.equal(draw(seed=1).samples, pairs.samples)


def test_no_object_is_drawn_often_while_others_wait() -> None:
    every = scene_pairs(BANK, BANK.ids, count=10_000, seed=0)
    could_be = every.objects.unique()
    few = draw(count=len(could_be) // 4).objects
    assert few.flatten().bincount().max() == 1


def test_samples_of_one_object_and_objects_at_the_border_are_no_pair() -> None:
    one_object = scene_pairs(BANK, torch.zeros_like(BANK.ids), count=5, seed=0)
    assert len(one_object) == 0
    moved = torch.stack([mask.roll(-int(mask.any(dim=2).nonzero()[0, 1]), dims=1) for mask in BANK.object_masks])
    assert moved[:, 0, 0].any(dim=1).all()
    assert len(draw(bank=SilhouetteBank(moved, BANK.labels, BANK.ids))) == 0


def test_holes_are_the_objects_at_one_place_of_an_untouched_picture_with_the_same_keys() -> None:
    shown: list[tuple[Tensor, Tensor, Tensor]] = []

    def recorder(images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
        shown.append((images.clone(), visible.clone(), keys.clone()))
        return torch.zeros(len(images), NUM_CLASSES)

    pairs = draw()
    ask_pairs(pairs, SCENES, {}, {"a": recorder, "b": recorder}, dict.fromkeys("ab", nothing_learned), seed=3)
    for first, second in zip(shown[::2], shown[1::2], strict=True):
        assert all(map(torch.equal, first, second))
    halves = [[tensor.chunk(2) for tensor in each] for each in shown[::2]]
    images, visible, keys = (
        [torch.cat(side) for side in zip(*parts, strict=True)] for parts in zip(*halves, strict=True)
    )
    assert torch.equal(images[0], images[1]) and torch.equal(keys[0], keys[1])
    assert torch.equal(images[0], SCENES.repeat(len(pairs), 1, 1, 1))
    assert len(keys[0].unique()) == len(pairs) * len(SCENES)
    masks = dict(zip(BANK.ids.tolist(), BANK.object_masks[:, 0].numpy(), strict=True))
    for side in (0, 1):
        for number, hole in enumerate(~visible[side][:, 0].numpy()):
            mask = masks[int(pairs.samples[number // len(SCENES), side])]
            assert np.array_equal(crop(hole), crop(mask))
    for hole_j, hole_k in zip(~visible[0][:, 0].numpy(), ~visible[1][:, 0].numpy(), strict=True):
        middle_j, middle_k = (
            np.array(cv2.minEnclosingCircle(np.argwhere(hole).astype(np.float32))[0]) for hole in (hole_j, hole_k)
        )
        assert abs(middle_j - middle_k).max() <= 1.0


def crop(hole: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0))
    return hole[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def found(pairs: PairAnswers) -> list[Estimate]:
    outcomes = replace(make_outcomes(3, 0), pairs=pairs)
    return [
        estimate(each, [outcomes], replicates=300)
        for each in (scene_2afc(), scene_pull(), scene_2afc_shown(), scene_share())
    ]


def test_a_reader_of_outlines_follows_every_pair_and_a_network_that_cannot_see_them_none() -> None:
    choice, pull, *_ = found(answers(reader))
    assert choice.interval == (1.0, 1.0, 1.0) and pull.interval == (1.0, 1.0, 1.0)
    choice, pull, *_ = found(answers(blind))
    assert choice.interval == (0.5, 0.5, 0.5) and pull.interval == (0.0, 0.0, 0.0)
    choice, *_ = found(answers(lambda *shown: -reader(*shown)))
    assert choice.value == 0.0


def test_pulls_are_the_formula_written_out() -> None:
    """Logits here depend on hole and picture: the mean over pictures of half the difference of two margins."""
    weights = torch.randn(NUM_CLASSES, SIZE * SIZE, generator=torch.Generator().manual_seed(2))

    def logits(images: Tensor, visible: Tensor) -> Tensor:
        return (images.mean(dim=1) * visible[:, 0]).flatten(1) @ weights.T

    shown: list[tuple[Tensor, Tensor]] = []

    def predictor(images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
        shown.append((images, visible))
        return logits(images, visible)

    pairs = draw()
    pulls = answers(predictor).hidden
    halves = [(each[0].chunk(2), each[1].chunk(2)) for each in shown]
    l_j, l_k = (torch.cat([logits(images[side], visible[side]) for images, visible in halves]) for side in (0, 1))
    for pair, (y_j, y_k) in enumerate(pairs.labels.tolist()):
        rows = range(pair * len(SCENES), (pair + 1) * len(SCENES))
        d = [((l_j[row, y_j] - l_j[row, y_k]) - (l_k[row, y_j] - l_k[row, y_k])) / 2 for row in rows]
        assert pulls[pair] == pytest.approx(float(sum(d)) / len(SCENES), abs=1e-4)


def coloured() -> list[Batch]:
    """The bank's samples, each object in the grey value of its class."""
    batch = shape_batch(80, 100)
    grey = (batch.labels.float() / NUM_CLASSES)[:, None, None, None].expand_as(batch.images)
    images = torch.where(batch.object_mask, grey, batch.images * 0.01 + 0.99)
    return [batch._replace(images=images)]


def colour_reader(images: Tensor) -> Tensor:
    """Reads the grey value of the darkest class that is there."""
    greys = torch.arange(NUM_CLASSES) / NUM_CLASSES
    share = (images[:, :1] - greys[None, :, None, None]).abs() < 1e-6
    return share.sum(dim=(2, 3)).float()


def test_objects_are_shown_with_their_own_pixels_in_the_same_pictures() -> None:
    pixels = draw().pixels_of(coloured()[0])
    choice, _, shown, share = found(answers(blind, colour_reader, pixels))
    assert (choice.value, shown.value, share.value) == (0.5, 1.0, 0.0)
    assert found(answers(reader, colour_reader, pixels))[3].value == 1.0
    pixels.pop(int(draw().samples[0, 0]))
    _, _, shown, _ = found(answers(blind, colour_reader, pixels))
    assert shown.left_out > 0 and shown.images + shown.left_out == 20


def test_what_cannot_be_asked_is_undefined_with_its_reason() -> None:
    def reason(pairs: ScenePairs, scenes: Tensor | None) -> list[str | None]:
        given = ask_pairs(pairs, scenes, {}, {"it": reader}, {"it": nothing_learned}, seed=0)["it"]
        return [each.undefined_because for each in found(given)]

    assert set(reason(draw(), None)) == {"undefined because the data have no pictures without objects."}
    lonely = scene_pairs(BANK, torch.zeros_like(BANK.ids), count=5, seed=0)
    assert all("no two objects of two classes match" in str(each) for each in reason(lonely, SCENES))
    hidden, pull, shown, share = reason(draw(), SCENES)
    assert hidden is None and pull is None and shown == share
    assert "no pair has both objects among the images" in str(shown)
    with pytest.raises(InputError, match=r"must have the size \(32, 32\).*got \(8, 8\)"):
        reason(draw(), SCENES[..., :8, :8])


def test_networks_are_asked_about_the_pairs_in_one_measurement() -> None:
    torch.manual_seed(0)
    classifier = MaskRobustClassifier("small_resnet", NUM_CLASSES, seed=0).eval()
    plan = ReliancePlan(shapes=False, hidden_fractions=(), scenes=3, scene_pairs=6)
    plans = {"black": plan, "layer_masking": replace(plan, scenes=0)}
    measurement = Measurement({"a": classifier}, BANK, plans, num_classes=NUM_CLASSES, seed=3, scenes=SCENES)
    runs = measurement.run(coloured())
    assert runs["a"]["layer_masking"].pairs is None
    rows = list(result_rows("a", "black", {0: runs["a"]["black"]}, Context(plan), replicates=50))
    for measure in ("scene_2afc", "scene_2afc_shown", "scene_pull"):
        row = only(rows, measure=measure)
        assert row is not None and row.value is not None and row.images == 6
    keyed = {("a", "black"): classifier.predictor("black")}
    pairs = scene_pairs(BANK, BANK.ids, count=6, seed=3)
    with torch.inference_mode():
        alone = ask_pairs(pairs, SCENES, {}, keyed, {("a", "black"): classifier}, seed=3)["a", "black"]
    asked = runs["a"]["black"].pairs
    assert asked is not None and np.array_equal(asked.hidden, alone.hidden)
    assert np.isfinite(asked.shown).all() and np.isnan(alone.shown).all()


@pytest.mark.parametrize(("of_objects", "mean"), [(0.0, 0.0), (0.7, 0.0), (0.7, 0.8)])
def test_intervals_over_pairs_that_share_objects_hold_the_truth(of_objects: float, mean: float) -> None:
    """Pull = mean + a_j + a_k + noise: in at least 87 of 100 draws, at a level of 95 %."""
    rng, objects = np.random.default_rng(0), 50
    held_choice = held_pull = 0
    for trial in range(100):
        both = np.array([rng.choice(objects, 2, replace=False) for _ in range(120)])
        effects = of_objects * rng.normal(size=objects)
        pulls = mean + effects[both].sum(axis=1) + rng.normal(size=120)
        pairs = PairAnswers(1, np.arange(120), both, pulls, pulls)
        outcomes = replace(make_outcomes(3, 0), pairs=pairs)
        choice = estimate(scene_2afc(), [outcomes], replicates=300, seed=trial).interval
        pull = estimate(scene_pull(), [outcomes], replicates=300, seed=trial).interval
        assert choice is not None and pull is not None
        held_choice += choice.low <= norm.cdf(mean / np.sqrt(1 + 2 * of_objects**2)) <= choice.high
        held_pull += pull.low <= mean <= pull.high
    assert min(held_choice, held_pull) >= 87
