"""The training objectives: their losses on logits, and their steps, which ask any function for these."""

import math

import pytest
import torch
from torch import Tensor

from maskrobust.augment import Batch
from maskrobust.lm_modules.training.objectives.abstention import abstention_loss, abstention_step
from maskrobust.lm_modules.training.objectives.consistency import consistency_loss, consistency_step
from maskrobust.lm_modules.training.objectives.cross_entropy import cross_entropy_step, mixed_cross_entropy
from maskrobust.lm_modules.training.objectives.distillation import distillation_loss, distillation_step
from maskrobust.lm_modules.training.training_masks import PresentedImages, present_whole, worst_presented


def draw_logits(seed: int) -> torch.Tensor:
    return 3 * torch.randn(6, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(row: list[float]) -> list[float]:
    exponentials = [math.exp(value) for value in row]
    return [value / sum(exponentials) for value in exponentials]


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
def test_the_loss_is_the_formula_written_out(weight: float) -> None:
    clean, masked, labels = draw_logits(0), draw_logits(1), [0, 3, 1, 1, 2, 0]
    total = 0.0
    for clean_row, masked_row, label in zip(clean.tolist(), masked.tolist(), labels, strict=True):
        target, prediction = softmax(clean_row), softmax(masked_row)
        agreement = -sum(t * math.log(p) for t, p in zip(target, prediction, strict=True))
        total += -math.log(target[label]) + weight * agreement
    loss = consistency_loss(clean, masked, torch.tensor(labels), weight)
    assert loss.shape == () and loss.item() == pytest.approx(total / 6, rel=1e-12)


def test_the_clean_view_is_taught_by_the_labels_alone() -> None:
    clean, masked, labels = draw_logits(0).requires_grad_(), draw_logits(1).requires_grad_(), torch.arange(6) % 4
    gradients = torch.autograd.grad(consistency_loss(clean, masked, labels, 2.0), [clean, masked])
    alone = torch.autograd.grad(torch.nn.functional.cross_entropy(clean, labels), clean)[0]
    assert torch.equal(gradients[0], alone)
    expected = 2.0 * (masked.softmax(dim=1) - clean.softmax(dim=1)) / 6
    torch.testing.assert_close(gradients[1], expected.detach())


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_mixed_labels_are_those_of_a_soft_target(smoothing: float) -> None:
    logits, labels, partner_labels = draw_logits(2), torch.tensor([0, 3, 1, 1, 2, 0]), torch.tensor([1, 3, 0, 2, 2, 3])
    weight = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0, 0.1], dtype=torch.float64)
    one_hot = torch.eye(4, dtype=torch.float64)
    target = weight[:, None] * one_hot[labels] + (1 - weight)[:, None] * one_hot[partner_labels]
    expected = torch.nn.functional.cross_entropy(logits, target, label_smoothing=smoothing)
    torch.testing.assert_close(mixed_cross_entropy(logits, labels, partner_labels, weight, smoothing), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_an_abstaining_loss_asks_for_even_predictions_of_hidden_objects_alone(smoothing: float) -> None:
    logits, labels = draw_logits(4), torch.tensor([0, 3, 1, 1, 2, 0])
    hidden = torch.tensor([False, True, False, True, True, False])
    target = torch.eye(4, dtype=torch.float64)[labels] * (1 - smoothing) + smoothing / 4
    target[hidden] = 0.25
    expected = torch.nn.functional.cross_entropy(logits, target)
    torch.testing.assert_close(abstention_loss(logits, labels, hidden, smoothing), expected)


HALVES = torch.arange(8).expand(8, 8) < 4
BATCH = Batch(
    torch.arange(6),
    torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)),
    HALVES.expand(6, 1, 8, 8),
    torch.tensor([0, 3, 1, 1, 2, 0]),
)


def learner(images: Tensor, visible: Tensor | None = None) -> Tensor:
    """Logits (B, 4): sums over quarters of what is to be seen."""
    seen = images if visible is None else images * visible
    return seen.sum(dim=1).unflatten(1, (4, 2)).sum(dim=(2, 3))


def behind(*is_hidden: Tensor) -> list[PresentedImages]:
    """The batch behind black holes (8, 8), one after the other, but for its first image."""
    kept = [(~hole).repeat(6, 1, 1, 1) for hole in is_hidden]
    for each in kept:
        each[0] = True
    return [present_whole(BATCH)._replace(images=BATCH.images * each, kept=each) for each in kept]


def test_a_step_is_the_loss_of_what_the_learner_answers() -> None:
    (shown,) = behind(HALVES)
    clean, masked, labels = learner(BATCH.images), learner(shown.images), BATCH.labels
    hidden = torch.arange(6) > 0
    assert torch.equal(shown.hides_object, hidden)
    assert torch.equal(abstention_step(learner, BATCH, shown, 0.1), abstention_loss(masked, labels, hidden, 0.1))
    assert torch.equal(consistency_step(learner, BATCH, shown, 2.0), consistency_loss(clean, masked, labels, 2.0))
    mixed = shown._replace(partners=labels.argsort(), own_weight=torch.linspace(0, 1, 6))
    expected = mixed_cross_entropy(masked, labels, labels[labels.argsort()], torch.linspace(0, 1, 6), 0.1)
    assert torch.equal(cross_entropy_step(learner, BATCH, mixed, 0.1), expected)


class Scenes:
    def without_object(self, split: str, ids: Tensor) -> Tensor:
        return ids[:, None, None, None].expand(-1, 3, 8, 8) / 10


def test_a_teacher_is_shown_the_scene_where_the_object_is_hidden() -> None:
    (shown,) = behind(HALVES)
    taught = torch.cat([BATCH.images[:1], Scenes().without_object("train", BATCH.ids[1:])])
    expected = distillation_loss(learner(shown.images), learner(taught))
    assert torch.equal(distillation_step(learner, BATCH, shown, learner, Scenes()), expected)
    nothing = present_whole(BATCH)
    assert distillation_step(learner, BATCH, nothing, learner, None) == pytest.approx(0, abs=1e-6)


def test_the_worst_hole_of_each_image_is_taken_and_the_first_of_equal_ones() -> None:
    holes = [HALVES, ~HALVES, HALVES.mT, ~HALVES]
    candidates = behind(*holes)
    losses = torch.stack(
        [torch.nn.functional.cross_entropy(learner(each.images), BATCH.labels, reduction="none") for each in candidates]
    )
    found = worst_presented(learner, candidates, BATCH.labels)
    for row, column in enumerate(losses.argmax(dim=0).tolist()):
        assert torch.equal(found.kept[row], candidates[column].kept[row])
        assert torch.equal(found.images[row], candidates[column].images[row])
    assert losses[:, 1:].argmax(dim=0).unique().numel() > 1 and found.kept[0].all()
