"""A step on an accelerator queues its work without waiting for the device.

Tensors on "meta" stand for those of an accelerator. Left out: superpixels, circles, linear imputation, inpainting and
exemplar, which compute on the CPU or ask when they are done; a mixture of fills; and whether a class has two objects to
draw.
"""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from maskrobust.augment import FILLS, Batch, apply_fill, build_family, random_keys
from maskrobust.augment.policy import RandomMasking
from maskrobust.lm_modules.methods import normalise
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from tests.waits import Waits

BATCH = Batch(
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
    classifier.trainer = pl.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    classifier.on_fit_start()
    normalise(BATCH.images.to("meta"), classifier.mean, classifier.std)  # the first step alone waits for its constants
    return classifier.to("meta"), BATCH.to("meta")


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
    batch = BATCH.to("meta")
    with Waits() as waits:
        apply_fill(fill, batch.images, batch.object_mask, keys=batch.ids, mean=(0.5, 0.5, 0.5))
    assert waits.found == []


@torch.no_grad()
def test_a_validation_step_waits_once_for_whether_something_is_hidden():
    classifier, batch = on_meta(masking="layer_masking")
    with Waits() as waits:
        classifier.eval().validation_step(batch, 0)
    assert waits.found == ["is_all_visible: __bool__"]


@pytest.mark.parametrize("family", ["patches", {"patches": 1.0, "blobs": 2.0}])
def test_all_holes_drawn_and_some_taken_are_those_of_a_cpu(family, monkeypatch):
    keys = random_keys(40, torch.Generator().manual_seed(0))
    batch = Batch(keys, torch.zeros(40, 3, 24, 24), torch.zeros(40, 1, 24, 24, dtype=torch.bool), keys)
    policy = RandomMasking(build_family(family, patch_size=8), probability=0.5)
    expected = policy.draw_visible(keys, batch)
    monkeypatch.setattr("maskrobust.augment.families.registry._draws_chosen_alone", lambda *_: False)
    assert torch.equal(policy.draw_visible(keys, batch), expected)
