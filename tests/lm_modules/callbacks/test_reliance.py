"""Reliance measured during training: right figures, from every process, and nothing disturbed."""

import csv
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import wandb
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, WandbLogger
from torch.utils.data import DataLoader

from augment import Batch, SilhouetteBank
from lm_modules import MaskRobustClassifier
from lm_modules.callbacks import RelianceCallback
from lm_modules.callbacks.reliance import _of_all_ranks
from lm_modules.reliance import (
    ConditionSource,
    ReliancePlan,
    RelianceSuite,
    estimate,
    retention,
    silhouette_leak,
    swap_pull,
)
from tests.lm_modules.reliance.shapes import NUM_CLASSES, shape_batch

TRAINING = [shape_batch(16, seed, first_id=16 * seed) for seed in range(4)]
VALIDATION = [shape_batch(16, 100 + seed, first_id=1000 + 16 * seed) for seed in range(3)]


class Shapes(pl.LightningDataModule):
    def training_batches(self) -> Iterator[Batch]:
        torch.rand(7)  # as a DataLoader draws from the global generator
        yield from TRAINING

    def train_dataloader(self) -> DataLoader:
        return DataLoader(TRAINING, batch_size=None, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(VALIDATION, batch_size=None)


def build() -> MaskRobustClassifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return MaskRobustClassifier(
            num_classes=NUM_CLASSES,
            architecture_options={"width": 16},
            masking="fill",
            patch_size=4,
            learning_rate=0.02,
        )


def callback(**options) -> RelianceCallback:
    return RelianceCallback(("black", "layer_masking"), **{"patch_size": 4, "replicates": 50, **options})


def fit(folder: Path, *callbacks: pl.Callback, epochs: int = 2) -> tuple[pl.Trainer, MaskRobustClassifier]:
    torch.manual_seed(3)
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=CSVLogger(folder, name="", version=""),
        log_every_n_steps=1,
        callbacks=[*callbacks],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    classifier = build()
    trainer.fit(classifier, datamodule=Shapes())
    return trainer, classifier


def logged(folder: Path) -> dict[str, list[float]]:
    """Every logged number by name, in order of epochs."""
    rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    return {name: [float(row[name]) for row in rows if row[name]] for name in rows[0]}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MaskRobustClassifier, torch.Tensor]:
    folder = tmp_path_factory.mktemp("measured")
    _, classifier = fit(folder, callback())
    return folder, classifier, torch.get_rng_state()


def test_training_goes_on_as_it_would_without(measured, tmp_path: Path) -> None:
    _, classifier, random_state = measured
    _, undisturbed = fit(tmp_path)
    assert torch.equal(torch.get_rng_state(), random_state)
    for name, weights in undisturbed.state_dict().items():
        assert torch.equal(classifier.state_dict()[name], weights), name


@pytest.mark.parametrize("method", ["black", "layer_masking"])
def test_the_figures_of_the_last_epoch_are_those_of_the_suite(measured, method: str) -> None:
    folder, classifier, _ = measured
    plan = ReliancePlan(patch_size=4, hidden_fractions=(0.5,))
    suite = RelianceSuite(SilhouetteBank.from_batches(TRAINING), NUM_CLASSES, plan)
    classifier.eval()
    for batch in VALIDATION:
        suite.update({method: classifier.predictor(method)}, batch)
    outcomes, numbers = suite.outcomes()[method], logged(folder)
    for measure in (silhouette_leak(), swap_pull(), retention(0.5)):
        expected = estimate(measure, [outcomes], replicates=50).estimate
        name = f"reliance/{method}/{measure.name.replace(' ', '_')}"
        found = [numbers[name + end][-1] for end in ("", "_low", "_high")]
        assert expected is not None and found == pytest.approx(list(expected), abs=1e-6)


def test_layer_masking_shows_no_hidden_pixel(measured) -> None:
    numbers = logged(measured[0])
    assert numbers["reliance/layer_masking/hidden_pixel_sensitivity"] == [0.0, 0.0]
    assert len(numbers["reliance/black/swap_pull"]) == 2
    assert len(numbers["reliance/black/probe_accuracy"]) == 2


def test_only_every_nth_epoch_is_measured_and_the_sanity_check_is_not(tmp_path: Path) -> None:
    fit(tmp_path, callback(every_n_epochs=2), epochs=5)
    assert len(logged(tmp_path)["reliance/black/silhouette_leak"]) == 2


def test_no_more_images_are_measured_than_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    update = RelianceSuite.update
    monkeypatch.setattr(
        RelianceSuite,
        "update",
        lambda self, predictors, batch: asked.append(len(batch.ids)) or update(self, predictors, batch),
    )
    fit(tmp_path, callback(max_images=20), epochs=1)
    assert asked == [16, 4]


def test_the_panel_has_a_column_for_each_method() -> None:
    reliance, batch = callback(), VALIDATION[0]
    shown = Batch(*(tensor[:3] for tensor in batch))
    picture, side = reliance.panel(build(), shown), batch.images.shape[-1]
    assert reliance.columns == ("image", "black", "layer_masking")
    assert picture.shape == (3, 3 * (side + 2) + 2, 3 * (side + 2) + 2)
    assert torch.equal(picture[:, 2 : side + 2, 2 : side + 2], shown.images[0])
    black = picture[:, 2 : side + 2, side + 4 : 2 * side + 4]
    assert (black[:, shown.object_mask[0, 0]] == 0).all()
    source = ConditionSource(SilhouetteBank.from_batches(TRAINING), ReliancePlan(), seed=0)
    measured = source.draw(shown).holes.silhouette_visible[0]
    assert torch.equal(black, torch.where(measured, shown.images[0], 0.0))


@pytest.mark.parametrize(
    ("options", "named"),
    [({"methods": ("blue",)}, "'blue'"), ({"every_n_epochs": 0}, "every_n_epochs"), ({"max_images": 0}, "max_images")],
)
def test_what_cannot_be_measured_is_refused(options: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        RelianceCallback(**options)


def test_data_without_objects_to_lend_are_refused(tmp_path: Path) -> None:
    trainer = pl.Trainer(logger=False, accelerator="cpu", enable_progress_bar=False, callbacks=[callback()])
    with pytest.raises(ValueError, match="reliance callback needs a data module"):
        trainer.validate(build(), dataloaders=DataLoader(VALIDATION, batch_size=None))


def _gather(rank: int, file: str, queue) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    queue.put((rank, _of_all_ranks({"ids": np.arange(rank + 1)})))
    torch.distributed.destroy_process_group()


def test_every_process_gets_what_all_have_found(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    processes = [context.Process(target=_gather, args=(rank, str(tmp_path / "store"), queue)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    found = dict([queue.get(), queue.get()])
    assert [len(each["ids"]) for each in found[0]] == [len(each["ids"]) for each in found[1]] == [1, 2]


def test_a_real_offline_run_of_weights_and_biases_gets_the_pictures(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    logger = WandbLogger(save_dir=tmp_path, project="test", offline=True)
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=logger, callbacks=[callback()], enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(build(), datamodule=Shapes())
    wandb.finish()
    (picture,) = tmp_path.rglob("media/images/reliance/shown*.png")
    with Image.open(picture) as panel:
        assert panel.width > 3 * VALIDATION[0].images.shape[-1]
