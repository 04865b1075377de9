"""Loader processes fill holes where a fill works on the CPU image by image, and a training goes on as it would."""

import os
import pickle
from pathlib import Path
from typing import Any

import cv2
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from maskrobust.augment import FILLS, Batch, Choice, draw, fill, uniform
from maskrobust.lm_modules.callbacks import StepSeed
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.train.data import Cues, Folder, InMemoryDataModule, Shards, loading
from maskrobust.train.data.loading import EpochSampler, Position
from tests.train.data.sets.test_folder import write_tree
from tests.train.data.sets.test_shards import named, write_folder

SIZE, CLASSES = 32, 3


def fill_by_hand(images, visible, keys):
    """A fill of a user's own, image by image, that OpenCV has no part in but for telling that it was called."""
    cv2.inpaint(*2 * [torch.zeros(2, 2, dtype=torch.uint8).numpy()], 1, cv2.INPAINT_TELEA)
    return draw(images, visible, torch.stack([uniform(key[None], 3, 1, 1)[0] for key in keys]).to(images.dtype))


class Own(InMemoryDataModule):
    """A data module of a user's own, with objects of its own."""

    class_names, num_classes, mean, std = ("a", "b", "c"), CLASSES, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2)

    def __init__(self, num_workers: int) -> None:
        super().__init__(batch_size=4, num_workers=num_workers, seed=3)

    def ids(self, split):
        return torch.arange(22)

    def make_samples(self, split, ids):
        images = (uniform(ids, 3, SIZE, SIZE) * 255).to(torch.uint8)
        object_mask = torch.zeros(len(ids), 1, SIZE, SIZE, dtype=torch.bool)
        object_mask[:, :, 4:20, 8:24] = uniform(ids + 100, 1, 16, 16) < 0.9
        return Batch(ids, images, object_mask, ids % CLASSES)


class Losses(pl.Callback):
    """The loss of every batch."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(self, *arguments):
        self.losses.append(float(arguments[2]["loss"]))


@pytest.fixture(autouse=True)
def _own_fill():
    """`fill_by_hand` is registered, for these tests alone."""
    fill("by_hand", on_cpu=True)(fill_by_hand)
    yield
    FILLS.pop("by_hand")


@pytest.fixture
def inpainted_here(monkeypatch):
    """Grows with each image that this process inpaints."""
    calls: list[int] = []
    inpaint, process = cv2.inpaint, os.getpid()

    def counted(*arguments):
        if os.getpid() == process:
            calls.append(1)
        return inpaint(*arguments)

    monkeypatch.setattr(cv2, "inpaint", counted)
    return calls


@pytest.fixture
def slowly(monkeypatch):
    """`trained`, with all that is drawn drawn in the training step."""

    def train(*arguments, **options):
        with monkeypatch.context() as patch:
            patch.setattr(MaskRobustClassifier, "present_ahead", None)
            return trained(*arguments, **options)

    return train


def trained(data, *callbacks, epochs=2, resumed=None, **options):
    """The losses and the weights of a training."""
    accumulated = options.pop("accumulated", 1)
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 20),
    )
    given = {"masking": "fill", "fill": "inpainting", "patch_size": 8, "mask_probability": 0.8} | options
    classifier = MaskRobustClassifier(network, 20, learning_rate=0.01, **given)
    losses = Losses()
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        accumulate_grad_batches=accumulated,
        callbacks=[losses, StepSeed(0), *callbacks],
    )
    trainer.fit(classifier, datamodule=data, ckpt_path=resumed)
    return losses.losses, {name: each.detach().clone() for name, each in network.state_dict().items()}


def assert_same(one, other):
    assert one[0] == other[0] and len(set(one[0])) == len(one[0])
    assert all(torch.equal(one[1][name], other[1][name]) for name in other[1])


def make_data(kind, folder, workers):
    if kind == "memory":
        return Cues(train_images=22, val_images=4, test_images=4, image_size=SIZE, batch_size=4, num_workers=workers)
    if kind == "own":
        return Own(workers)
    if kind == "files":
        if not folder.exists():
            write_tree(folder)
        return Folder(str(folder / "images"), image_size=SIZE, batch_size=4, num_workers=workers)
    if not folder.exists():
        write_folder(folder)
    return Shards(**named(folder), image_size=SIZE, batch_size=4, num_workers=workers)


pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*' does not have many workers"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),  # on one core
]


@pytest.mark.parametrize(("kind", "workers"), [("memory", 0), ("files", 2), ("shards", 2)])
def test_loader_processes_fill_what_the_training_step_would(kind, workers, tmp_path, inpainted_here, slowly):
    found = trained(make_data(kind, tmp_path / kind, workers))
    assert bool(inpainted_here) == (workers == 0)
    assert_same(found, slowly(make_data(kind, tmp_path / kind, workers)))


OPTIONS: dict[str, dict[str, Any]] = {
    "abstention": {"objective": "abstention", "mask_family": {"covers": 1, "patches": 1}},
    "several fills, in steps of three batches": {
        "fill": {"inpainting": 1, "exemplar": 1, "other_image": 1, "gaussian_noise": 1, "linear_imputation": 1},
        "accumulated": 3,
        "mask_ramp": 0.7,
    },
    "a fill of one's own, and some by layer masking": {"fill": "by_hand", "masking": "mixture"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_however_a_training_masks_its_images(options, tmp_path, inpainted_here, slowly):
    data = [make_data("memory", tmp_path, 2), make_data("memory", tmp_path, 0)]
    found = trained(data[0], **options)
    assert not inpainted_here
    assert_same(found, slowly(data[1], **options))
    assert inpainted_here


def test_what_loader_processes_do_can_be_sent_to_one_that_is_not_forked():
    data = Own(0)
    data.setup("fit")
    batch = next(iter(data.val_dataloader()))
    classifier = MaskRobustClassifier("small_resnet", 3, masking="fill", fill="inpainting", mask_family="silhouettes")
    classifier.build_masks(data)
    ahead = classifier.present_ahead
    sent = pickle.loads(pickle.dumps(ahead))
    assert ahead is not None and torch.equal(sent(batch, 5).presented.images, ahead(batch, 5).presented.images)


def test_no_loader_process_fills_what_a_device_draws_a_batch_at_once(tmp_path):
    masked: dict[str, Choice] = {"fill": {"black": 1, "inpainting": 0}}
    for options in (masked, {"masking": "none"}):
        classifier = MaskRobustClassifier("small_resnet", 3, **{"masking": "fill", **options})
        classifier.build_masks(None)
        assert classifier.present_ahead is None


class Saved(pl.Callback):
    """Saves a checkpoint when an optimiser step has been taken."""

    def __init__(self, folder: Path, step: int) -> None:
        self.path, self.step = folder / f"{step}.ckpt", step

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step and not self.path.exists():
            trainer.save_checkpoint(self.path)


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
@pytest.mark.parametrize(("kind", "saved"), [("memory", 9), ("shards", 4)])
def test_a_training_that_goes_on_is_presented_the_same_holes(kind, saved, tmp_path, inpainted_here, slowly):
    options = {"accumulated": 2, "mask_ramp": 0.9, "epochs": 4}
    whole = trained(make_data(kind, tmp_path / kind, 2), Saved(tmp_path, saved), **options)
    resumed = {"resumed": tmp_path / f"{saved}.ckpt", **options}
    found = trained(make_data(kind, tmp_path / kind, 2), **resumed)
    assert not inpainted_here
    assert_same(found, slowly(make_data(kind, tmp_path / kind, 2), **resumed))
    if kind == "memory":
        assert found[0] == whole[0][-len(found[0]) :] and all(
            torch.equal(found[1][name], whole[1][name]) for name in found[1]
        )


class Changed(pl.Callback):
    """Steps that were not to be foreseen, from the second batch of the first epoch on."""

    def on_train_batch_end(self, trainer, *_):
        trainer.accumulate_grad_batches = 2


def test_what_was_presented_for_another_step_is_not_trained_on(tmp_path, inpainted_here, slowly):
    found = trained(make_data("memory", tmp_path, 2), Changed(), epochs=1)
    assert 0 < len(inpainted_here) < 22
    assert_same(found, slowly(make_data("memory", tmp_path, 2), Changed(), epochs=1))


class Darker(Own):
    """Changes its images on the device, in place or not."""

    in_place = True

    def on_after_batch_transfer(self, batch, dataloader_idx):
        if self.in_place:
            batch.images.mul_(0.5)
            return batch
        return batch._replace(images=batch.images * 0.5)


@pytest.mark.parametrize("in_place", [True, False])
def test_images_that_a_data_module_changes_on_the_device_are_filled_after_that(in_place, inpainted_here, slowly):
    data = Darker(2), Darker(2)
    for each in data:
        each.in_place = in_place
    found = trained(data[0])
    assert inpainted_here
    assert_same(found, slowly(data[1]))


def test_batches_outside_of_a_training_are_as_they_were_read():
    data = Own(0)
    trained(data, epochs=1)
    assert all(type(batch) is Batch for batch in data.train_dataloader())


def plainly(position, batches):
    """The step of each batch from a position on, counted one by one from the start of the epoch."""
    step = position.step - position.batches // position.batches_per_step
    for batch in range(batches):
        if batch >= position.batches:
            yield step
        step += (batch + 1) % position.batches_per_step == 0


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("position", [Position(0, 0), Position(1, 0, 4, 3), Position(1, 3, 7, 2), Position(2, 2, 5, 3)])
def test_each_index_tells_the_step_it_is_read_for(position, rank, monkeypatch):
    monkeypatch.setattr(loading, "rank_and_number", lambda: (rank, 2))
    sampler = EpochSampler(30, 0, 4, lambda: position)
    steps = [index.step for index in sampler]
    batches = [steps[start : start + 4] for start in range(0, len(steps), 4)]
    assert [set(batch) for batch in batches] == [{step} for step in plainly(position, 4)]
