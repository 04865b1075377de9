"""Short trainings with the reliance callback."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger, Logger
from torch.utils.data import DataLoader

from maskrobust.augment import Batch
from maskrobust.lm_modules.callbacks import RelianceCallback
from maskrobust.lm_modules.reliance.holes.scenes import EmptyScenes
from maskrobust.lm_modules.reliance.plan import ReliancePlan
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from tests.lm_modules.reliance.shapes import NUM_CLASSES, shape_batch
from tests.trainers import quiet_trainer

TRAINING = [shape_batch(16, seed, first_id=16 * seed) for seed in range(4)]
VALIDATION = [shape_batch(16, 100 + seed, first_id=1000 + 16 * seed) for seed in range(3)]
PLAN = ReliancePlan(patch_size=4)


class Shapes(pl.LightningDataModule):
    """Four training and three validation batches."""

    def annotated_batches(self, split: str) -> Iterator[Batch]:
        torch.rand(7)  # as a DataLoader draws from the global generator
        yield from TRAINING

    def empty_scenes(self, split: str, count: int) -> EmptyScenes:
        pictures = torch.rand(count, *VALIDATION[0].images.shape[1:], generator=torch.Generator().manual_seed(count))
        return EmptyScenes(pictures, ("noise",) * count)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(TRAINING, batch_size=None, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(VALIDATION, batch_size=None)


def build() -> MaskRobustClassifier:
    """A small network whose weights are the same each time."""
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
    """For two methods, with the cheap `PLAN`."""
    return RelianceCallback(("black", "layer_masking"), **{"plan": PLAN, **options})


def fit(
    logger: Logger,
    *callbacks: pl.Callback,
    epochs: int = 2,
    ckpt_path: Path | None = None,
    data: type[Shapes] = Shapes,
    **options,
) -> tuple[pl.Trainer, MaskRobustClassifier]:
    """Train on shapes, the same way each time."""
    torch.manual_seed(3)
    given = {"max_epochs": epochs, "logger": logger, "log_every_n_steps": 1, "callbacks": [*callbacks], **options}
    trainer = quiet_trainer(**given)
    classifier = build()
    trainer.fit(classifier, datamodule=data(), ckpt_path=ckpt_path)
    return trainer, classifier


def csv_logger(folder: Path) -> CSVLogger:
    """Writes `folder`/metrics.csv."""
    return CSVLogger(folder, name="", version="")


def logged(folder: Path) -> dict[str, list[float]]:
    """Every logged number by name, in order of epochs."""
    rows = list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))
    return {name: [float(row[name]) for row in rows if row[name]] for name in rows[0]}
