"""The training objectives: their losses on logits, their steps, and a network that learns from its own answers."""

import math

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from maskrobust.augment import Batch
from maskrobust.lm_modules.networks.architectures import SmallResNet, build_network
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.lm_modules.training.objectives import (
    consistency_loss,
    consistency_step,
    cross_entropy_step,
    distillation_loss,
    mixed_cross_entropy,
)
from maskrobust.lm_modules.training.optimisation import train_only
from maskrobust.lm_modules.training.training_masks import present_whole
from tests.conftest import refused
from tests.lm_modules.training.test_classifier import Data, build, draw_batch, fit, make_trainer


def draw_logits(seed):
    return 3 * torch.randn(6, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(row):
    exponentials = [math.exp(value) for value in row]
    return [value / sum(exponentials) for value in exponentials]


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.0])
def test_the_loss_is_the_formula_written_out(weight):
    clean, masked, labels = draw_logits(0), draw_logits(1), [0, 3, 1, 1, 2, 0]
    total = 0.0
    for clean_row, masked_row, label in zip(clean.tolist(), masked.tolist(), labels, strict=True):
        target, prediction = softmax(clean_row), softmax(masked_row)
        agreement = -sum(t * math.log(p) for t, p in zip(target, prediction, strict=True))
        total += -math.log(target[label]) + weight * agreement
    loss = consistency_loss(clean, masked, torch.tensor(labels), weight)
    assert loss.shape == () and loss.item() == pytest.approx(total / 6, rel=1e-12)


def test_the_clean_view_is_taught_by_the_labels_alone():
    clean, masked, labels = draw_logits(0).requires_grad_(), draw_logits(1).requires_grad_(), torch.arange(6) % 4
    gradients = torch.autograd.grad(consistency_loss(clean, masked, labels, 2.0), [clean, masked])
    alone = torch.autograd.grad(torch.nn.functional.cross_entropy(clean, labels), clean)[0]
    assert torch.equal(gradients[0], alone)
    expected = 2.0 * (masked.softmax(dim=1) - clean.softmax(dim=1)) / 6
    torch.testing.assert_close(gradients[1], expected.detach())


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_mixed_labels_are_those_of_a_soft_target(smoothing):
    logits, labels, partner_labels = draw_logits(2), torch.tensor([0, 3, 1, 1, 2, 0]), torch.tensor([1, 3, 0, 2, 2, 3])
    weight = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0, 0.1], dtype=torch.float64)
    one_hot = torch.eye(4, dtype=torch.float64)
    target = weight[:, None] * one_hot[labels] + (1 - weight)[:, None] * one_hot[partner_labels]
    expected = torch.nn.functional.cross_entropy(logits, target, label_smoothing=smoothing)
    torch.testing.assert_close(mixed_cross_entropy(logits, labels, partner_labels, weight, smoothing), expected)


HALVES = torch.arange(8).expand(8, 8) < 4
BATCH = Batch(
    torch.arange(6),
    torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)),
    HALVES.expand(6, 1, 8, 8),
    torch.tensor([0, 3, 1, 1, 2, 0]),
)


def learner(images, visible=None):
    """Logits (B, 4): sums over quarters of what is to be seen."""
    seen = images if visible is None else images * visible
    return seen.sum(dim=1).unflatten(1, (4, 2)).sum(dim=(2, 3))


def test_a_step_is_the_loss_of_what_the_learner_answers():
    kept = (~HALVES).repeat(6, 1, 1, 1)
    kept[0] = True
    shown = present_whole(BATCH)._replace(images=BATCH.images * kept, kept=kept)
    clean, masked, labels = learner(BATCH.images), learner(shown.images), BATCH.labels
    assert torch.equal(shown.hides_object, torch.arange(6) > 0)
    assert torch.equal(consistency_step(learner, BATCH, shown, 2.0), consistency_loss(clean, masked, labels, 2.0))
    mixed = shown._replace(partners=labels.argsort(), own_weight=torch.linspace(0, 1, 6))
    expected = mixed_cross_entropy(masked, labels, labels[labels.argsort()], torch.linspace(0, 1, 6), 0.1)
    assert torch.equal(cross_entropy_step(learner, BATCH, mixed, 0.1), expected)


DISTILLING = {"masking": "fill", "fill": "mean", "objective": "distillation", "trainable": ["layer3", "fc"]}


class Scenes(Data):
    """Data that know their pictures without the objects: one grey for each."""

    def without_object(self, split, ids):
        assert split == "train"
        return (ids / 20.0)[:, None, None, None].expand(-1, 3, 16, 16)


@pytest.fixture
def weights(tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = build_network("small_resnet", 3, {"width": 16})
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    return str(tmp_path / "weights.pt")


def test_the_loss_is_the_divergence_written_out():
    logits, target = 3 * torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p, q = target.softmax(dim=1), logits.softmax(dim=1)
    expected = sum(float(a) * float((a / b).log()) for a, b in zip(p.flatten(), q.flatten(), strict=True)) / 6
    assert distillation_loss(logits, target).item() == pytest.approx(expected, rel=1e-12)
    assert distillation_loss(target, target.requires_grad_()).item() == pytest.approx(0, abs=1e-15)
    assert not distillation_loss(logits, target).requires_grad


@pytest.mark.parametrize("masking", ["fill", "layer_masking"])
def test_the_chosen_modules_alone_are_trained(weights, masking):
    classifier = build(**{**DISTILLING, "masking": masking}, weights=weights)
    fit(classifier)
    before = torch.load(weights)
    after = dict(classifier.network.state_dict())
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    trained = {name for name, _ in SmallResNet().named_parameters() if name.startswith(("layer3.", "fc."))}
    assert changed == trained  # neither other parameters nor any statistics of batch norms


def test_the_network_as_it_was_is_the_teacher_of_its_masked_views(weights):
    classifier = build(**DISTILLING, weights=weights)
    step = fit(classifier, Scenes()).global_step
    logged: list[Tensor] = []
    classifier.log = lambda _name, value, **_options: logged.append(value)
    batch = Data().batches[0]
    before = build(weights=weights).eval()
    shown = classifier.present(batch)
    expected = distillation_loss(classifier(shown.images), before(batch.images))
    assert step == 2 and not shown.hides_object.any()
    torch.testing.assert_close(classifier.training_step(batch._replace(labels=batch.labels * 0 - 1), 0), expected)


def test_a_hidden_object_is_not_to_be_guessed(weights):
    """The target is what the teacher says of the picture without it, where the hole leaves nothing of the object."""
    classifier = build(**DISTILLING, weights=weights, mask_family="objects")
    fit(classifier, Scenes())
    classifier.log = lambda *_arguments, **_options: None
    batch = draw_batch(torch.arange(6))
    batch.object_mask[3:] = False  # without an object, nothing is hidden
    before = build(weights=weights).eval()
    target = torch.cat([before(Scenes().without_object("train", batch.ids[:3])), before(batch.images[3:])])
    expected = distillation_loss(classifier(classifier.present(batch).images), target)
    torch.testing.assert_close(classifier.training_step(batch, 0), expected)


def test_validation_counts_answers_like_the_teachers(weights):
    classifier = build(**DISTILLING, weights=weights, learning_rate=1e-9)
    fit(classifier)
    for batch in (data := Data()).batches:
        batch.labels.fill_(-1)
    (found,) = make_trainer().validate(classifier, datamodule=data, verbose=False)
    assert found["val/accuracy"] == 1.0


def test_its_checkpoint_is_one_of_the_network_and_of_its_teacher(weights, tmp_path):
    classifier = build(**DISTILLING, weights=weights)
    fit(classifier).save_checkpoint(tmp_path / "last.ckpt")
    again = MaskRobustClassifier.from_checkpoint(str(tmp_path / "last.ckpt"))
    started = build(weights=str(tmp_path / "last.ckpt"))
    for name, value in classifier.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], value)
        assert torch.equal(started.network.state_dict()[name], value)
    for name, value in torch.load(weights).items():
        assert torch.equal(again.teacher.state_dict()[name], value)
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    content["state_dict"]["teacher.more"] = torch.zeros(1)
    torch.save(content, tmp_path / "more.ckpt")
    with refused(ValueError, "more.ckpt"):
        MaskRobustClassifier.from_checkpoint(str(tmp_path / "more.ckpt"))


def test_what_cannot_be_learnt_is_refused_in_one_sentence(weights):
    with refused(ValueError, "Data", match="needs pictures without the objects"):
        fit(build(**DISTILLING, weights=weights, mask_family="objects"))
    with refused(ValueError, "weights", match="'distillation' learns from the network as it starts out"):
        fit(build(**DISTILLING))
    for paths, named in ((["layer4"], "'layer4'"), ([], "''"), (["avgpool"], "'avgpool'"), (["layer"], "'layer'")):
        with refused(ValueError, named, "conv1, bn1", match="trainable must be paths of modules of SmallResNet"):
            train_only(SmallResNet(), paths)


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
def test_a_training_that_goes_on_within_an_epoch_keeps_its_teacher_and_what_is_not_trained(weights, tmp_path):
    def save(trainer, *_arguments):
        trainer.save_checkpoint(tmp_path / f"{trainer.global_step}.ckpt")

    saving = pl.callbacks.LambdaCallback(on_train_batch_end=save)
    fit(build(**DISTILLING, weights=weights), Scenes(), callbacks=[saving])
    again = build(**DISTILLING)
    trainer = make_trainer(2, limit_val_batches=0)
    trainer.fit(again, datamodule=Scenes(), ckpt_path=tmp_path / "1.ckpt", weights_only=True)
    assert trainer.global_step == 2
    for name, value in torch.load(weights).items():
        assert torch.equal(again.teacher.state_dict()[name], value)
        assert name.startswith(("layer3.", "fc.")) or torch.equal(again.network.state_dict()[name], value)
