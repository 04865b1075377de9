"""The reliance callback in a `Trainer` of the package `lightning`, whose classes are none of `pytorch_lightning`'s."""

from pathlib import Path

import lightning as other_package
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.loggers import WandbLogger
from torch.utils.data import DataLoader

from maskrobust.errors import InputError
from tests.lm_modules.callbacks.runs import TRAINING, VALIDATION, logged
from tests.lm_modules.callbacks.test_strangers_trainer import Described, Strangers, callback, names, normalised, train


class Others(other_package.LightningModule):
    """The strangers' module, of the other package."""

    def __init__(self):
        super().__init__()
        self.net = Strangers().net

    training_step, validation_step = Strangers.training_step, Strangers.validation_step
    configure_optimizers = Strangers.configure_optimizers


class OthersData(other_package.LightningDataModule):
    """The strangers' data, of the other package."""

    num_classes, mean, std = Described.num_classes, Described.mean, Described.std

    def annotated_batches(self, split):
        yield from TRAINING

    def val_dataloader(self):
        return DataLoader(VALIDATION, batch_size=None)


def train_with_other_package(folder, *callbacks, **options):
    torch.manual_seed(3)
    trainer = other_package.Trainer(
        max_epochs=2, accelerator="cpu", default_root_dir=folder, log_every_n_steps=1, callbacks=[*callbacks],
        enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip
    trainer.fit(Others(), normalised(TRAINING), normalised(VALIDATION))


@pytest.mark.parametrize("data", [Described, OthersData])
def test_both_packages_trainers_log_the_same_numbers(data, tmp_path):
    train(tmp_path / "one", callback(network="net", every_n_epochs=2))
    measures = callback(network="net", data=data(), every_n_epochs=2)
    train_with_other_package(
        tmp_path, measures, logger=other_package.pytorch.loggers.CSVLogger(tmp_path, "other", version="")
    )
    one, other = (logged(tmp_path / name) for name in ("one", "other"))
    measured = {name for name in one if name.startswith("reliance/")}
    assert names() <= measured == {name for name in other if name.startswith("reliance/")}
    assert all(one[name] == other[name] and len(one[name]) == 1 for name in measured)


def test_the_other_packages_weights_and_biases_gets_pictures_and_tables(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    logger = WandbLogger(save_dir=tmp_path, project="test", offline=True)
    train_with_other_package(tmp_path, callback(network="net"), logger=logger, enable_checkpointing=False)
    logger.experiment.finish()
    kinds = {path.suffix for path in Path(tmp_path).rglob("files/media/**/*.*")}
    assert kinds == {".png", ".json"}


def test_the_other_packages_averaged_weights_must_come_after_it(tmp_path):
    with pytest.raises(InputError, match="RelianceCallback must come before EMAWeightAveraging"):
        train_with_other_package(tmp_path, EMAWeightAveraging(), callback(network="net"), logger=False)
