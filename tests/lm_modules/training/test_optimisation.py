"""Optimisers and schedules, means over samples, masks from names, and no waiting for a device."""

import math
from typing import Any

import pytest
import torch
from torch import nn, optim
from torch.nn import functional as F

from maskrobust.augment import FILLS, Batch, SilhouetteBank, apply_fill, build_family, sample_keys
from maskrobust.augment.policy import RandomMasking
from maskrobust.errors import InputError
from maskrobust.lm_modules.methods import normalise
from maskrobust.lm_modules.networks.architectures import SmallResNet
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.lm_modules.training.objectives import build_class_weights, mixed_cross_entropy
from maskrobust.lm_modules.training.optimisation import axes_of_parameters, build_optimiser, build_schedule
from maskrobust.lm_modules.training.processes import SampleMean
from maskrobust.lm_modules.training.training_masks import build_masking, build_silhouette_bank, evaluation_fill
from maskrobust.train.data import Cues
from tests.conftest import refused
from tests.trainers import quiet_trainer
from tests.waits import Waits

PEAK = 0.4


def rates(name, steps, warmup_fraction):
    """Learning rate of each optimiser step, and after the last."""
    optimiser = optim.SGD([nn.Parameter(torch.zeros(1))], lr=PEAK)
    schedule = build_schedule(optimiser, name, steps, warmup_fraction)
    history = []
    for _ in range(steps + 1):
        history.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return history


@pytest.mark.parametrize(
    ("name", "momentum", "kind"), [("sgd", 0.9, optim.SGD), ("sgd", 0.0, optim.SGD), ("adamw", 0.9, optim.AdamW)]
)
def test_the_optimiser_is_the_one_named(name, momentum, kind):
    network = SmallResNet(2, width=16)
    optimiser = build_optimiser(network, axes_of_parameters(network), name, 0.1, 0.0, momentum)
    assert type(optimiser) is kind
    for group in optimiser.param_groups:
        assert group["lr"] == 0.1
        if kind is optim.SGD:
            assert group["momentum"] == momentum and group["nesterov"] is (momentum > 0)


def test_a_layer_that_was_put_in_after_the_fit_began_is_not_left_without_decay():
    network = SmallResNet(2, width=16)
    axes = axes_of_parameters(network)
    network.extra = nn.Linear(2, 2)
    with refused(InputError, "extra.bias"):
        build_optimiser(network, axes, "sgd", 0.1, 0.05, 0.9)


def test_the_cosine_ends_at_zero_and_the_constant_stays():
    cosine, constant = rates("cosine", 40, 0.25), rates("constant", 40, 0.25)
    assert constant[10:] == pytest.approx([PEAK] * 31)
    expected = [PEAK * (1 + math.cos(math.pi * step / 30)) / 2 for step in range(31)]
    assert cosine[10:] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("before", "now"), [(20, 50), (50, 20), (2, 50), (50, 2)])
@pytest.mark.parametrize("name", ["constant", "cosine"])
def test_a_training_that_goes_on_with_another_length_has_the_rates_of_that_length(name, before, now):
    def begun(steps):
        optimiser = optim.SGD([nn.Parameter(torch.zeros(1))], lr=PEAK)
        return optimiser, build_schedule(optimiser, name, steps, 0.1)

    done = min(before, now)
    optimiser, schedule = begun(before)
    for _ in range(done):
        optimiser.step()
        schedule.step()
    state = schedule.state_dict()
    optimiser, schedule = begun(now)
    schedule.load_state_dict(state)
    rest = []
    for _ in range(done, now):  # the first step: `test_a_run_goes_on_from_the_newest...` in tests/train/fit
        optimiser.step()
        schedule.step()
        rest.append(optimiser.param_groups[0]["lr"])
    assert rest == rates(name, now, 0.1)[done + 1 :]


VALUES = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.5, 0.25, 1.0])


def mean_over(*batches):
    """The mean of `VALUES` when they come in these batches of ids."""
    metric = SampleMean()
    for ids in batches:
        metric.update(torch.tensor(ids), VALUES[ids])
    return metric.compute()


@pytest.mark.parametrize(
    "batches",
    [
        ([0, 1, 2, 3, 4, 5, 6],),
        ([0, 1, 2, 3], [4, 5, 6]),
        ([0, 2, 4, 6], [1, 3, 5, 0]),
        ([6, 6, 6], [0, 1, 2], [3, 4, 5], [6, 6, 6]),
    ],
)
def test_every_sample_counts_once_however_often_and_wherever_it_comes(batches):
    assert torch.equal(mean_over(*batches), VALUES.mean())


def test_the_first_value_of_a_sample_counts():
    metric = SampleMean()
    metric.update(torch.tensor([3, 8, 3]), torch.tensor([1.0, 2.0, 9.0]))
    metric.update(torch.tensor([8]), torch.tensor([7.0]))
    assert metric.compute() == 1.5


KEYS, CPU = sample_keys(0, torch.arange(6)), torch.device("cpu")
BATCH = Batch(torch.arange(6), torch.ones(6, 3, 8, 12), torch.zeros(6, 1, 8, 12, dtype=torch.bool), torch.arange(6))


class Source:
    """Two batches, with the objects in opposite halves."""

    def annotated_batches(self, split):
        for i in range(2):
            object_mask = torch.zeros(2, 1, 8, 12, dtype=torch.bool)
            object_mask[i, :, :, 6 * i : 6 * i + 6] = True
            yield Batch(torch.arange(2) + 2 * i, torch.zeros(2, 3, 8, 12), object_mask, torch.arange(2))


def masking(mask_family="patches", source=None):
    arguments: dict[str, Any] = {
        "mask_family": mask_family,
        "fill": "mean",
        "hidden_fraction": (0.25, 0.75),
        "patch_size": 4,
        "mask_probability": 1.0,
        "mean": (0.1, 0.2, 0.3),
    }
    return build_masking(arguments, source, CPU)


def test_a_family_without_weight_is_not_built():
    unused = masking({"patches": 2.0, "silhouettes": 0.0})
    assert torch.equal(unused.draw_visible(KEYS, BATCH), masking().draw_visible(KEYS, BATCH))


def test_several_families_are_mixed():
    mixed = masking({"patches": 1.0, "silhouettes": 1.0}, source=Source())
    visible = mixed.draw_visible(sample_keys(0, torch.arange(200)), BATCH.select(torch.arange(200) % 6))
    halves = (visible[:, 0, 0, [0, 11]].sum(dim=1) == 1) & ((~visible).sum(dim=(1, 2, 3)) == 48)
    assert 60 < halves.sum() < 160


def test_the_heaviest_fill_that_evaluation_knows_is_validated_with():
    assert evaluation_fill({"black": 1.0, "blur": 2.0, "other_image": 9.0}) == "blur"
    assert evaluation_fill({"random_colour": 1.0, "black": {}}) == "black"
    assert evaluation_fill("other_image") == "mean"


def test_silhouettes_are_those_of_the_training_objects():
    bank = build_silhouette_bank("silhouettes", Source(), CPU)
    expected = SilhouetteBank.from_batches(Source().annotated_batches("train"))
    assert bank is not None and torch.equal(bank.object_masks, expected.object_masks)
    assert torch.equal(bank.objects, bank.ids)
    assert build_silhouette_bank({"patches": 1.0, "silhouettes": 0.0}, Source(), CPU) is None
    elsewhere = build_silhouette_bank("silhouettes", Source(), torch.device("meta"))
    assert elsewhere is not None and elsewhere.object_masks.is_meta


FOUR = Batch(
    torch.arange(4),
    torch.rand(4, 3, 32, 32),
    torch.zeros(4, 1, 32, 32, dtype=torch.bool),
    torch.zeros(4, dtype=torch.int64),
)


def on_meta(**options):
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), *head)
    classifier = MaskRobustClassifier(network, 4, patch_size=8, **options)
    classifier.log = lambda *_args, **_options: None
    classifier.trainer = quiet_trainer(max_epochs=1)
    classifier.setup("fit")
    normalise(FOUR.images.to("meta"), classifier.mean, classifier.std)  # the first step alone waits for its constants
    return classifier.to("meta"), FOUR.to("meta")


@pytest.mark.parametrize(
    "options",
    [
        {"masking": "none"},
        {"masking": "layer_masking"},
        {"masking": "layer_masking", "mask_family": "blobs", "objective": "consistency"},
        {"masking": "layer_masking", "mask_family": {"patches": 1.0, "rectangles": {"weight": 1.0, "count": 3}}},
        {"masking": "mixture", "fill": "other_image"},
        {"masking": "fill"},
    ],
    ids=str,
)
def test_a_training_step_does_not_wait(options):
    classifier, batch = on_meta(**options)
    with Waits() as waits:
        classifier.training_step(batch, 0).backward()
    assert waits.found == []


class Scenes:
    def without_object(self, split, ids):
        assert not ids.is_meta
        return torch.zeros(len(ids), 3, 32, 32)


def test_a_distillation_waits_once_for_whose_objects_are_hidden(monkeypatch):
    classifier, batch = on_meta(masking="fill", mask_family="objects", objective="distillation")
    monkeypatch.setattr(classifier.trainer, "datamodule", Scenes(), raising=False)
    with Waits() as waits:
        classifier.training_step(batch, 0).backward()
    assert waits.found == ["shown_to_teacher: cpu"]


@pytest.mark.parametrize("fill", sorted(set(FILLS) - {"blur", "linear_imputation", "inpainting", "exemplar"}))
def test_a_fill_does_not_wait(fill):
    batch = FOUR.to("meta")
    with Waits() as waits:
        apply_fill(fill, batch.images, batch.object_mask, keys=batch.ids, mean=(0.5, 0.5, 0.5))
    assert waits.found == []


@torch.no_grad()
def test_a_validation_step_does_not_wait():
    classifier, batch = on_meta(masking="layer_masking")
    with Waits() as waits:
        classifier.eval().validation_step(batch, 0)
    assert waits.found == []


@pytest.mark.parametrize("family", ["patches", {"patches": 1.0, "blobs": 2.0}])
def test_all_holes_drawn_and_some_taken_are_those_of_a_cpu(family, monkeypatch):
    keys = sample_keys(0, torch.arange(40))
    batch = Batch(keys, torch.zeros(40, 3, 24, 24), torch.zeros(40, 1, 24, 24, dtype=torch.bool), keys)
    policy = RandomMasking(build_family(family, patch_size=8), probability=0.5)
    expected = policy.draw_visible(keys, batch)
    monkeypatch.setattr("maskrobust.augment.families.mask_family._draws_chosen_alone", lambda *_: False)
    assert torch.equal(policy.draw_visible(keys, batch), expected)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ("sgd", 0.1, "cosine", 1.0)),
        ({"optimiser": "adamw"}, ("adamw", 1e-3, "cosine", 1.0)),
        ({"weights": True}, ("adamw", 1e-3, "constant", 0.1)),
        ({"weights": True, "optimiser": "sgd"}, ("sgd", 0.01, "constant", 0.1)),
        ({"weights": True, "learning_rate": 0.02}, ("sgd", 0.02, "cosine", 1.0)),
        ({"weights": True, "backbone_factor": 0.5, "schedule": "cosine"}, ("adamw", 1e-3, "cosine", 0.5)),
    ],
)
def test_weights_are_fine_tuned_slowly_unless_a_learning_rate_is_given(given, expected, tmp_path):
    if "weights" in given:
        torch.save(SmallResNet(4, width=16).state_dict(), tmp_path / "weights.pt")
        given = given | {"weights": str(tmp_path / "weights.pt")}
    model = MaskRobustClassifier("small_resnet", 4, architecture_options={"width": 16}, **given)
    names = ("optimiser", "learning_rate", "schedule", "backbone_factor")
    assert tuple(model.hparams[name] for name in names) == expected


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_layers_ahead_of_the_head_learn_at_their_own_rate_and_weights_of_two_or_more_axes_alone_decay(optimiser):
    network = SmallResNet(4, width=16)
    network.conv1.weight.requires_grad_(False)
    backbone = [name for name, _ in network.named_parameters() if not name.startswith("fc.")]
    options = (optimiser, 0.2, 0.05, 0.9, backbone, 0.1)
    groups = build_optimiser(network, axes_of_parameters(network), *options).param_groups
    found = {id(each): (group["lr"], group["weight_decay"]) for group in groups for each in group["params"]}
    expected = {
        id(each): (0.2 if name.startswith("fc.") else 0.2 * 0.1, 0.05 if each.ndim > 1 else 0.0)
        for name, each in network.named_parameters()
        if name != "conv1.weight"
    }
    assert found == expected and len(groups) == 4


def fine_tuned(max_epochs, folder, resume=None, **options):
    """A classifier after so many epochs of two steps, and the trainer."""
    torch.manual_seed(0)
    trainer = quiet_trainer(max_epochs=max_epochs, limit_train_batches=2, limit_val_batches=0)
    model = MaskRobustClassifier("small_resnet", 8, architecture_options={"width": 16}, **options)
    data = Cues(train_images=16, val_images=8, test_images=8, image_size=32, batch_size=8)
    trainer.fit(model, datamodule=data, ckpt_path=resume, weights_only=True)
    trainer.save_checkpoint(folder / f"{max_epochs}.ckpt")
    return model, str(folder / f"{max_epochs}.ckpt")


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_frozen_layers_keep_all_they_have_until_their_epoch_and_a_resumed_run_as_well(optimiser, tmp_path):
    options = {"optimiser": optimiser, "freeze_backbone_epochs": 1, "weight_decay": 0.1, "learning_rate": 0.01}
    options |= {"schedule": "constant", "warmup_fraction": 0.0}
    torch.manual_seed(0)
    start = MaskRobustClassifier("small_resnet", 8, architecture_options={"width": 16}).network.state_dict()
    frozen, path = fine_tuned(1, tmp_path, **options)
    moved = {name for name, value in frozen.network.state_dict().items() if not torch.equal(value, start[name])}
    assert moved == {name for name in start if ".fc." in f".{name}"}
    straight, _ = fine_tuned(2, tmp_path, **options)
    resumed, _ = fine_tuned(2, tmp_path, path, **options)
    assert all(map(torch.equal, straight.state_dict().values(), resumed.state_dict().values()))
    assert not torch.equal(straight.network.state_dict()["conv1.weight"], start["conv1.weight"])


def test_balanced_weights_give_each_class_the_same_part_of_the_loss():
    class Few(Cues):
        def make_samples(self, split, ids):
            made = super().make_samples(split, ids)
            return made._replace(labels=(ids % 4 > 0).long())

    data = Few(train_images=16, val_images=8, test_images=8, image_size=32)
    weights = build_class_weights("balanced", 2, data)
    assert weights is not None and weights.tolist() == pytest.approx([2.0, 2 / 3])
    logits, labels = torch.randn(16, 2), data.labels("train")
    same = torch.ones(16)
    found = mixed_cross_entropy(logits, labels, labels, same, 0.1, weights)
    parts = [F.cross_entropy(logits[labels == each], labels[labels == each], label_smoothing=0.1) for each in range(2)]
    assert torch.allclose(found, (parts[0] + parts[1]) / 2)
    with pytest.raises(InputError, match=r"needs images of every class, got .* of the 3"):
        build_class_weights("balanced", 3, data)
    with pytest.raises(InputError, match="which object does not know ahead; give a number"):
        build_class_weights("balanced", 2, object())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"class_weights": "balance"}, "class_weights must be balanced or a number for each class, got 'balance'"),
        ({"class_weights": [1.0, 2.0]}, "class_weights must be 4 numbers above 0"),
        ({"class_weights": "balanced", "objective": "consistency", "masking": "fill"}, "takes no class_weights"),
        ({"freeze_backbone_epochs": 1, "trainable": ["fc"]}, "both say which layers are trained"),
        ({"backbone_factor": -1.0}, "backbone_factor must be at least 0"),
    ],
)
def test_options_of_fine_tuning_that_contradict_each_other_are_refused(options, said):
    with pytest.raises(InputError, match=said):
        MaskRobustClassifier("small_resnet", 4, **options)
