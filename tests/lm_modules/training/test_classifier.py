"""`MaskRobustClassifier` in a real trainer, on tiny data."""

import itertools
import math
from dataclasses import replace

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.callbacks import BatchSizeFinder, LearningRateFinder
from torch import Tensor, nn
from torch.utils.data import DataLoader

from maskrobust.augment import FILLS, Batch, apply_fill, fill_black, fold_in, patches, sample_keys
from maskrobust.lm_modules.masking import UnsupportedNetworkError
from maskrobust.lm_modules.masking.visible_map import MaskingOptions
from maskrobust.lm_modules.networks.architectures import build_network
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from tests.conftest import refused
from tests.lm_modules.masking.networks import seeded
from tests.trainers import quiet_trainer

CLASSES, SIZE = 3, 16


def draw_batch(ids):
    """Images whose colour tells the class, with an object in the middle."""
    labels = ids % CLASSES
    noise = torch.stack([torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(int(i))) for i in ids])
    images = 0.5 * noise + 0.5 * F.one_hot(labels, CLASSES)[:, :, None, None]
    object_mask = torch.zeros(len(ids), 1, SIZE, SIZE, dtype=torch.bool)
    object_mask[:, :, 4:12, 3:10] = True
    return Batch(ids, images, object_mask, labels)


class Data(pl.LightningDataModule):
    """The same few samples in every epoch, in a given order."""

    def __init__(self, *orders, num_classes=CLASSES):
        super().__init__()
        self.num_classes = num_classes
        self.batches = [draw_batch(torch.tensor(order)) for order in orders or ([0, 1, 2, 3, 4, 5], [6, 7, 8, 9])]

    def annotated_batches(self, split):
        yield from self.batches

    def train_dataloader(self):
        return DataLoader(self.batches, batch_size=None)

    val_dataloader = test_dataloader = train_dataloader


class Recorder:
    """What a classifier's network is called with, and the losses."""

    def __init__(self, classifier):
        self.calls: list[tuple[Tensor, Tensor | None]] = []
        classifier.network.register_forward_pre_hook(lambda _module, inputs: self.calls.append((*inputs, None)[:2]))


class Watcher(pl.Callback):
    """Learning rate and loss of every step."""

    def __init__(self):
        self.rates: list[float] = []
        self.losses: list[float] = []

    def on_train_batch_start(self, trainer, *_):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer, pl_module, outputs, *_):
        self.losses.append(outputs["loss"].item())


def build(**arguments):
    given = {"architecture_options": {"width": 16}, "patch_size": 4, "mask_probability": 1.0, **arguments}
    return seeded(lambda: MaskRobustClassifier(num_classes=CLASSES, **given))


def make_trainer(steps=2, **options):
    return quiet_trainer(**{"max_steps": steps, "num_sanity_val_steps": 0, **options})


def fit(classifier, data=None, steps=2, **options):
    trainer = make_trainer(steps, limit_val_batches=0, **options)
    trainer.fit(classifier, datamodule=data or Data())
    return trainer


@pytest.mark.parametrize(
    ("masking", "mask_family", "objective"),
    [
        ("none", "patches", "cross_entropy"),
        ("fill", "rectangles", "consistency"),
        ("layer_masking", "silhouettes", "cross_entropy"),
        ("mixture", "patches", "cross_entropy"),
    ],
)
def test_every_way_of_training_takes_its_steps(masking, mask_family, objective):
    classifier = build(masking=masking, mask_family=mask_family, objective=objective)
    before = {name: parameter.clone() for name, parameter in classifier.named_parameters()}
    recorder = Recorder(classifier)
    trainer = fit(classifier)
    assert trainer.global_step == 2 and len(recorder.calls) == 2
    assert trainer.callback_metrics["train/loss"].isfinite()
    assert all(not torch.equal(parameter, before[name]) for name, parameter in classifier.named_parameters())


def shown(masking, objective="cross_entropy", **arguments):
    """What the network is called with in the first training step, in pixel space."""
    classifier = build(masking=masking, objective=objective, mean=(0.5,) * 3, std=(0.25,) * 3, **arguments)
    recorder = Recorder(classifier)
    fit(classifier, steps=1)
    images, visible = recorder.calls[0]
    return images * 0.25 + 0.5, visible, classifier


def expected_hole(classifier, ids, step=0):
    keys = fold_in(sample_keys(classifier.hparams["seed"], ids), step)
    assert classifier.training_masks is not None
    return classifier.training_masks.draw_visible(keys, draw_batch(ids))


def test_a_fill_is_in_the_image_and_layer_masking_beside_it():
    clean = draw_batch(torch.arange(6)).images
    filled, visible, classifier = shown("fill", fill="mean")
    hole = expected_hole(classifier, torch.arange(6))
    assert visible is None and not hole.all()
    torch.testing.assert_close(filled, torch.where(hole, clean, 0.5))
    images, visible, _ = shown("layer_masking")
    torch.testing.assert_close(images, clean)
    assert torch.equal(visible, hole)


def test_the_label_is_mixed_as_the_image_is():
    classifier, batch = build(masking="fill", fill="other_image"), draw_batch(torch.arange(6))
    classifier.build_masks(None)
    assert classifier.training_masks is not None
    masked = classifier.training_masks(fold_in(sample_keys(0, batch.ids), 0), batch)
    presented = classifier.present(batch)
    assert torch.equal(presented.images, masked.images)
    assert torch.equal(presented.partners, masked.partners) and (presented.partners != torch.arange(6)).all()
    assert torch.equal(presented.own_weight, masked.own_weight) and (presented.own_weight < 1).all()


def test_a_mixture_draws_fills_for_the_images_that_show_them_alone(monkeypatch):
    drawn = []

    def record(images, visible):
        drawn.append(~visible.flatten(1).all(dim=1))
        return fill_black(images, visible)

    monkeypatch.setitem(FILLS, "black", replace(FILLS["black"], function=record, inputs={"images", "visible"}))
    classifier, batch = build(masking="mixture", fill="black", mask_probability=0.7), draw_batch(torch.arange(60))
    classifier.build_masks(None)
    presented = classifier.present(batch)
    by_fill = presented.visible.flatten(1).all(dim=1) & ~presented.kept.flatten(1).all(dim=1)
    assert 0 < by_fill.sum() < presented.is_masked.sum() < 60
    assert len(drawn) == 1 and torch.equal(drawn[0], by_fill)


def test_in_a_mixture_no_label_is_mixed_where_layer_masking_hides():
    classifier, batch = build(masking="mixture", fill="other_image"), draw_batch(torch.arange(60))
    classifier.build_masks(None)
    presented = classifier.present(batch)
    by_layers = ~presented.visible.flatten(1).all(dim=1)
    assert 15 < by_layers.sum() < 45
    assert torch.equal(presented.partners == torch.arange(60), by_layers)
    assert torch.equal(presented.own_weight == 1, by_layers)
    assert torch.equal(presented.images[by_layers], batch.images[by_layers])


def test_a_training_without_an_end_needs_nothing_that_depends_on_it():
    stop = {"max_epochs": -1, "max_time": {"milliseconds": 100}}
    options = {"schedule": "constant", "warmup_fraction": 0.0}
    trainer = make_trainer(-1, limit_val_batches=0, **stop)
    trainer.fit(build(**options), datamodule=Data())
    assert trainer.global_step > 0
    for needs in ({"schedule": "cosine"}, {"warmup_fraction": 0.1}):
        with refused(ValueError, "max_steps", match="need to know how long the training is"):
            make_trainer(-1, limit_val_batches=0, **stop).fit(build(**{**options, **needs}), datamodule=Data())


def holes_by_sample(orders, seed=0):
    """Hole of each (step, id)."""
    classifier = build(masking="layer_masking", hidden_fraction=(0.3, 0.7), seed=seed)
    recorder = Recorder(classifier)
    fit(classifier, Data(*orders), steps=len(orders))
    pairs = zip(orders, recorder.calls, strict=True)
    return {(step, i): visible[row] for step, (ids, (_, visible)) in enumerate(pairs) for row, i in enumerate(ids)}


def test_a_hole_depends_on_seed_sample_and_step_alone():
    straight = holes_by_sample([[0, 1, 2, 3], [0, 1, 2, 3]])
    shuffled = holes_by_sample([[3, 7, 1, 0, 2], [2, 9, 8, 0, 1, 3]])
    assert all(torch.equal(hole, shuffled[key]) for key, hole in straight.items())
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(straight.values(), 2))
    reseeded = holes_by_sample([[0, 1, 2, 3], [0, 1, 2, 3]], seed=1)
    assert all(not torch.equal(hole, reseeded[key]) for key, hole in straight.items())


def test_validation_and_test_log_what_the_network_gets_right():
    classifier, data = build(masking="layer_masking").eval(), Data()
    trainer = make_trainer()
    (validated,) = trainer.validate(classifier, datamodule=data, verbose=False)
    (tested,) = trainer.test(classifier, datamodule=data, verbose=False)
    right, right_masked, losses, count = 0, 0, 0.0, 0
    for batch in data.batches:
        keys = sample_keys(0, batch.ids)
        half = patches(keys, SIZE, SIZE, hidden_fraction=(0.5, 0.5), patch_size=4)
        with torch.no_grad():
            logits, masked_logits = classifier(batch.images), classifier(batch.images, half)
        right += int((logits.argmax(dim=1) == batch.labels).sum())
        right_masked += int((masked_logits.argmax(dim=1) == batch.labels).sum())
        losses += F.cross_entropy(logits, batch.labels, reduction="sum").item()
        count += len(batch.ids)
    assert validated["val/accuracy"] == tested["test/accuracy"] == pytest.approx(right / count)
    assert validated["val/accuracy_half_hidden"] == pytest.approx(right_masked / count)
    assert validated["val/loss"] == pytest.approx(losses / count, rel=1e-5)


def test_a_classifier_trained_with_a_fill_is_validated_with_it():
    classifier, data = build(masking="fill", fill="random_colour"), Data()
    recorder = Recorder(classifier)
    make_trainer().validate(classifier, datamodule=data, verbose=False)
    batch, (images, visible) = data.batches[0], recorder.calls[1]
    keys = sample_keys(0, batch.ids)
    half = patches(keys, SIZE, SIZE, hidden_fraction=(0.5, 0.5), patch_size=4)
    filled = apply_fill("random_colour", batch.images, half, keys=keys, mean=classifier.mean)
    assert visible is None
    mean, std = (torch.tensor(values)[:, None, None] for values in (classifier.mean, classifier.std))
    torch.testing.assert_close(images, (filled - mean) / std)


class Unreadable(nn.Module):
    """What its forward does depends on the data, so layer masking cannot read it."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.fc = nn.Linear(8, CLASSES)

    def forward(self, images):
        features = self.conv1(images if images.mean() > 0 else -images)
        return self.fc(features.relu().mean(dim=(2, 3)))


@pytest.mark.parametrize("masking", ["none", "fill"])
def test_a_network_that_layer_masking_cannot_read_is_trained_without_it(masking, tmp_path):
    classifier = build(architecture=Unreadable(), architecture_options=None, masking=masking)
    before = classifier.network.fc.weight.clone()
    trainer = fit(classifier)
    assert not torch.equal(classifier.network.fc.weight, before)
    trainer.validate(classifier, datamodule=Data(), verbose=False)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    assert "network.conv1.weight" in torch.load(tmp_path / "last.ckpt")["state_dict"]
    again = build(architecture=Unreadable(), architecture_options=None, weights=str(tmp_path / "last.ckpt"))
    assert torch.equal(again.network.fc.weight, classifier.network.fc.weight)


@pytest.mark.parametrize("masking", ["layer_masking", "mixture"])
def test_layer_masking_in_training_needs_a_network_it_can_read(masking):
    with pytest.raises(UnsupportedNetworkError, match="Unreadable"):
        build(architecture=Unreadable(), architecture_options=None, masking=masking)
    with pytest.raises(UnsupportedNetworkError, match="Unreadable"):
        build(architecture=Unreadable(), architecture_options=None)(*draw_batch(torch.arange(2))[1:3])


def test_training_on_silhouettes_needs_a_module_that_has_some_but_testing_does_not():
    classifier, loader = build(masking="fill", mask_family="silhouettes"), Data().train_dataloader()
    make_trainer().test(classifier, loader, verbose=False)
    with refused(ValueError, "silhouettes", "NoneType", match="annotated_batches"):
        make_trainer(limit_val_batches=0).fit(classifier, loader, loader)


def test_a_training_about_objects_needs_object_masks():
    data, arguments = Data(), {"masking": "fill", "mask_family": {"patches": 1.0, "objects": 1.0}}
    data.batches[0].object_mask.fill_(False)
    build(**arguments).build_masks(data)
    data.batches[1].object_mask.fill_(False)
    with refused(ValueError, "a mask family that hides the image's own object", match="no training image has one"):
        fit(build(**arguments), data)


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_memory_format_is_that_asked_for(channels_last):
    classifier = build(channels_last=channels_last)
    recorder = Recorder(classifier)
    classifier(torch.rand(2, 3, SIZE, SIZE))
    for tensor in (recorder.calls[0][0], classifier.network.network.layer1[0].conv1.weight):
        assert tensor.is_contiguous(memory_format=torch.channels_last) is channels_last


REFUSALS = [
    ({"hidden_fraction": (0.8, 0.2)}, ["hidden_fraction", "(0.8, 0.2)"]),
    ({"learning_rate": 0.0}, ["learning_rate", "0.0"]),
    ({"consistency_weight": -1.0}, ["consistency_weight", "-1.0"]),
    ({"masking": "layer-masking"}, ["masking", "'layer-masking'", "layer_masking, mixture"]),
    ({"layer_masking": {"merge": "sum"}}, ["merge", "'sum'", "intersection, union"]),
    ({"mean": (124.0, 116.0, 104.0)}, ["mean", "124.0"]),
    (
        {"objective": "consistency", "masking": "fill", "fill": {"black": 1.0, "other_image": 1.0}},
        ["consistency", "'other_image'"],
    ),
    ({"objective": "mse"}, ["objective", "'mse'", "consistency"]),
    ({"optimiser": "lion"}, ["optimiser", "'lion'", "sgd, adamw"]),
    ({"objective": "consistency", "masking": "none"}, ["consistency", "masking"]),
]


@pytest.mark.parametrize(("arguments", "named"), REFUSALS, ids=[str(arguments) for arguments, _ in REFUSALS])
def test_an_argument_out_of_its_range_is_refused_in_one_sentence(arguments, named):
    with refused(ValueError, *named, match=named[0]):
        build(**arguments)


def test_layer_masking_takes_its_options_and_a_checkpoint_keeps_them(tmp_path):
    options = {"merge": "union", "detach_padding": False, "padding": "mirror"}
    classifier = build(masking="layer_masking", layer_masking=options)
    network = classifier.network
    assert network.options == MaskingOptions("union", detach_padding=False, padding="mirror")
    assert classifier.validation_method == "layer_masking_mirror"
    fit(classifier).save_checkpoint(tmp_path / "last.ckpt")
    again = MaskRobustClassifier.from_checkpoint(str(tmp_path / "last.ckpt"))
    assert again.hparams["layer_masking"] == options and again.network.options == network.options


class SizedData(Data):
    """Twelve samples, in batches of a size that Lightning's tuner may change."""

    def __init__(self):
        super().__init__()
        self.batch_size = 2

    def train_dataloader(self):
        return DataLoader([draw_batch(torch.tensor([i])) for i in range(12)], self.batch_size, collate_fn=Batch.cat)


@pytest.mark.parametrize("masking", ["fill", "layer_masking"])
def test_lightnings_tuners_train_with_masks_and_what_they_find_is_used(masking, tmp_path):
    """The schedule begins at the rate that was found, and spans the steps of batches of the size that was found."""
    finder, sizer, seen = LearningRateFinder(num_training_steps=25), BatchSizeFinder(max_trials=2), Watcher()
    options = {"max_epochs": 3, "default_root_dir": tmp_path, "callbacks": [finder, sizer, seen]}
    classifier = build(masking=masking, learning_rate=0.3, warmup_fraction=0.0)
    trainer = fit(classifier, SizedData(), steps=-1, **options)
    found = finder.optimal_lr.suggestion()
    assert found != 0.3 and classifier.hparams["learning_rate"] == found
    assert sizer.optimal_batch_size == trainer.datamodule.batch_size == 4
    assert seen.rates[-9:] == pytest.approx([found * (1 + math.cos(math.pi * step / 9)) / 2 for step in range(9)])


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_schedule_spans_the_training(schedule):
    classifier, watcher = build(schedule=schedule, warmup_fraction=0.5, learning_rate=0.2), Watcher()
    fit(classifier, steps=8, callbacks=[watcher])
    rates = watcher.rates
    assert [rates[0], rates[2], rates[4]] == pytest.approx([0.002, 0.101, 0.2])
    assert rates[6] == pytest.approx(0.1 if schedule == "cosine" else 0.2)


def test_a_checkpoint_that_started_from_weights_no_longer_needs_their_file(tmp_path):
    torch.save(build_network("small_resnet", 9, {"width": 16}).state_dict(), tmp_path / "weights.pt")
    classifier = build(weights=str(tmp_path / "weights.pt"), new_head=True)
    fit(classifier).save_checkpoint(tmp_path / "last.ckpt")
    (tmp_path / "weights.pt").unlink()
    again = MaskRobustClassifier.from_checkpoint(str(tmp_path / "last.ckpt"))
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), classifier.parameters(), strict=True))
