"""The suite: what it asks, what it keeps, and that neither batches nor ranks change an answer."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from augment import Batch, sample_keys
from lm_modules import Predictor
from lm_modules.reliance import (
    Outcomes,
    RelianceSuite,
    draw_conditions,
    hidden_pixel_sensitivity,
    swap_index,
)
from tests.lm_modules.reliance.shapes import NUM_CLASSES, SIZE, as_logits, shape_bank, shape_batch

FRACTIONS = (0.0, 0.3, 0.8)
BANK = shape_bank(60)


def part_of(batch: Batch, chosen: Tensor) -> Batch:
    return Batch(*(field[chosen] for field in batch))


def count_visible(images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
    """A class from exact integer sums over visible pixels and the key: equal in any batch."""
    levels = (images * 255).long() * visible
    return as_logits((levels.sum(dim=(1, 2, 3)) + visible.sum(dim=(1, 2, 3)) + (keys & 7)) % NUM_CLASSES)


def peek(images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
    """Looks into the hole: logit c is the largest pixel of a quarter of the rows."""
    return images.amax(dim=(1, 3)).reshape(len(images), NUM_CLASSES, -1).amax(dim=2)


PREDICTORS: dict[str, Predictor] = {"count": count_visible, "peek": peek}


def evaluate(batches: Iterator[Batch] | list[Batch], seed: int = 5) -> dict[str, Outcomes]:
    suite = RelianceSuite(BANK, NUM_CLASSES, seed=seed, hidden_fractions=FRACTIONS)
    for batch in batches:
        suite.update(PREDICTORS, batch)
    return suite.outcomes()


def assert_equal(one: Outcomes, other: Outcomes) -> None:
    for name, values in vars(one).items():
        assert np.array_equal(values, getattr(other, name), equal_nan=name in ("sensitivity", "swap_area_difference"))


@pytest.fixture(scope="module")
def batch() -> Batch:
    whole = shape_batch(64, 0, first_id=1000)
    whole.object_mask[3] = False
    whole.object_mask[5, 0, ::31, ::31] = True
    return whole


@pytest.fixture(scope="module")
def expected(batch: Batch) -> dict[str, Outcomes]:
    return evaluate([batch])


def test_every_answer_is_the_one_under_its_condition(batch: Batch, expected: dict[str, Outcomes]) -> None:
    conditions = draw_conditions(batch, swap_index(BANK), seed=5, hidden_fractions=FRACTIONS, patch_size=8)

    def answers(visible: Tensor) -> np.ndarray:
        return count_visible(batch.images, visible, conditions.fill_keys).argmax(dim=1).numpy()

    found = expected["count"]
    valid = found.object_valid
    assert np.array_equal(found.clean, answers(torch.ones_like(batch.object_mask)))
    assert np.array_equal(found.silhouette[valid], answers(conditions.holes.silhouette_visible)[valid])
    assert np.array_equal(found.circle[valid], answers(conditions.holes.circle_visible)[valid])
    assert np.array_equal(found.whole_mask[valid], answers(~batch.object_mask)[valid])
    broken = batch.object_mask.roll((SIZE // 2, SIZE // 2), dims=(2, 3))
    assert np.array_equal(found.broken_mask[valid], answers(~broken)[valid])
    assert np.array_equal(found.swap_j, answers(conditions.swaps.visible_j))
    assert np.array_equal(found.swap_k, answers(conditions.swaps.visible_k))
    assert np.array_equal(found.patches, [answers(visible) for visible in conditions.patches_visible])
    assert np.array_equal(found.patches[0], found.clean)
    assert np.array_equal(found.swap_label_j, conditions.swaps.labels_j)
    assert np.array_equal(found.labels, batch.labels)
    assert np.array_equal(found.ids, batch.ids)


def test_invalid_images_have_no_answer_behind_their_holes(expected: dict[str, Outcomes]) -> None:
    for found in expected.values():
        assert np.flatnonzero(~found.object_valid).tolist() == [3, 5]
        assert found.silhouette[[3, 5]].tolist() == [-1, -1]
        assert found.circle[[3, 5]].tolist() == [-1, -1]
        assert found.whole_mask[[3, 5]].tolist() == found.broken_mask[[3, 5]].tolist() == [-1, -1]
        assert np.isnan(found.sensitivity[[3, 5]]).all()
        assert (found.clean >= 0).all()
        assert (found.silhouette[found.object_valid] >= 0).all()


@pytest.mark.parametrize("batch_size", [1, 10, 64])
def test_answers_do_not_depend_on_batch_size_or_order(
    batch: Batch, expected: dict[str, Outcomes], batch_size: int
) -> None:
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    found = evaluate([part_of(batch, chosen) for chosen in order.split(batch_size)])
    for name in PREDICTORS:
        assert_equal(found[name], expected[name])


def test_ranks_merge_into_the_answers_of_one_process_and_repeated_samples_count_once(
    batch: Batch, expected: dict[str, Outcomes]
) -> None:
    ranks = [torch.arange(0, 64, 3), torch.arange(1, 64, 3), torch.cat([torch.arange(2, 64, 3), torch.tensor([0, 0])])]
    parts = [evaluate([part_of(batch, chosen)]) for chosen in ranks]
    for name in PREDICTORS:
        assert_equal(Outcomes.merge([part[name] for part in parts]), expected[name])


def test_sensitivity_is_the_largest_change_of_a_logit_when_the_hole_is_redrawn(
    batch: Batch, expected: dict[str, Outcomes]
) -> None:
    conditions = draw_conditions(batch, swap_index(BANK), seed=5, hidden_fractions=FRACTIONS, patch_size=8)
    before, after = (images.numpy().astype(float) for images in (batch.images, conditions.redrawn_images))
    quarters = [slice(start, start + SIZE // 4) for start in range(0, SIZE, SIZE // 4)]
    changes = [abs(after[:, :, rows].max(axis=(1, 2, 3)) - before[:, :, rows].max(axis=(1, 2, 3))) for rows in quarters]
    found = expected["peek"]
    valid = found.object_valid
    assert np.array_equal(found.sensitivity[valid], np.max(changes, axis=0)[valid])
    assert hidden_pixel_sensitivity(found) == np.max(changes, axis=0)[valid].max() > 0
    assert hidden_pixel_sensitivity(expected["count"]) == 0.0


def test_known_clean_logits_replace_a_forward_pass(batch: Batch, expected: dict[str, Outcomes]) -> None:
    calls = []

    def counted(images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
        calls.append(visible.all().item())
        return count_visible(images, visible, keys)

    keys = draw_conditions(batch, swap_index(BANK), seed=5, hidden_fractions=(), patch_size=8).fill_keys
    clean = count_visible(batch.images, torch.ones_like(batch.object_mask), keys)
    suite = RelianceSuite(BANK, NUM_CLASSES, seed=5, hidden_fractions=FRACTIONS)
    suite.update({"count": counted}, batch, clean_logits={"count": clean})
    assert calls == [False] * 9
    assert_equal(suite.outcomes()["count"], expected["count"])
    suite.update({"count": counted}, batch)
    assert len(calls) == 19


def test_without_objects_only_the_other_conditions_are_asked(batch: Batch) -> None:
    calls = []

    def counted(images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
        calls.append(visible)
        return count_visible(images, visible, keys)

    suite = RelianceSuite(BANK, NUM_CLASSES, hidden_fractions=(0.0,))
    suite.update({"count": counted}, batch._replace(object_mask=torch.zeros_like(batch.object_mask)))
    assert len(calls) == 3
    found = suite.outcomes()["count"]
    assert not found.object_valid.any()
    assert np.isnan(hidden_pixel_sensitivity(found))


def test_the_mode_of_a_network_is_left_alone_and_no_graph_is_built(batch: Batch) -> None:
    network = nn.Sequential(nn.Dropout(0.5), nn.Flatten(), nn.Linear(3 * SIZE * SIZE, NUM_CLASSES)).train()
    seen = []

    def predict(images: Tensor, visible: Tensor, keys: Tensor) -> Tensor:
        seen.append(network.training)
        logits: Tensor = network(images * visible)
        assert not logits.requires_grad
        return logits

    RelianceSuite(BANK, NUM_CLASSES).update({"network": predict}, part_of(batch, torch.arange(4)))
    assert all(seen)
    assert network.training


def test_wrong_logits_are_refused(batch: Batch) -> None:
    with pytest.raises(ValueError, match=r"\(B, 7\), got shape \(64, 4\)"):
        RelianceSuite(BANK, 7).update({"count": count_visible}, batch)


def test_the_bank_may_lack_classes_for_swaps(batch: Batch) -> None:
    two_classes = [part_of(batch, batch.labels < 2)]
    suite = RelianceSuite(type(BANK).from_batches(two_classes), NUM_CLASSES)
    suite.update(PREDICTORS, two_classes[0])
    found = suite.outcomes()["count"]
    assert not found.swap_valid.any()
    assert (found.swap_j == -1).all()


def test_the_seed_decides_the_answers(batch: Batch, expected: dict[str, Outcomes]) -> None:
    other = evaluate([batch], seed=6)["count"]
    assert not np.array_equal(other.silhouette, expected["count"].silhouette)
    assert not np.array_equal(sample_keys(5, batch.ids), sample_keys(6, batch.ids))
