"""The reliance callback in a `Trainer` of the package `lightning`, whose classes are none of `pytorch_lightning`'s."""

import pytest
import torch
from lightning_utilities.core import rank_zero
from torch.utils.data import DataLoader

from maskrobust.errors import InputError
from maskrobust.lm_modules.callbacks.logged_pictures import log_picture, log_table, shows_pictures
from tests.lm_modules.callbacks.runs import TRAINING, VALIDATION, logged
from tests.lm_modules.callbacks.test_strangers_trainer import Described, Strangers, callback, names, normalised, train


@pytest.fixture(scope="module")
def other():
    """The package. Its import takes the messages of `pytorch_lightning`, too; afterwards these go where they went."""
    before = rank_zero.log
    import lightning
    import lightning.pytorch.callbacks
    import lightning.pytorch.loggers

    yield lightning
    rank_zero.log = before


def strangers_of(package):
    """The strangers' module and data, of the package."""

    class Others(package.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = Strangers().net

        training_step, validation_step = Strangers.training_step, Strangers.validation_step
        configure_optimizers = Strangers.configure_optimizers

    class OthersData(package.LightningDataModule):
        num_classes, mean, std = Described.num_classes, Described.mean, Described.std

        def annotated_batches(self, split):
            yield from TRAINING

        def val_dataloader(self):
            return DataLoader(VALIDATION, batch_size=None)

    return Others(), OthersData()


def train_with(package, folder, *callbacks, **options):
    torch.manual_seed(3)
    trainer = package.Trainer(
        max_epochs=2, accelerator="cpu", default_root_dir=folder, log_every_n_steps=1, callbacks=[*callbacks],
        enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip
    trainer.fit(strangers_of(package)[0], normalised(TRAINING), normalised(VALIDATION))


def test_both_packages_trainers_log_the_same_numbers(tmp_path, other):
    train(tmp_path / "one", callback(network="net", every_n_epochs=2))
    measures = callback(network="net", data=strangers_of(other)[1], every_n_epochs=2)
    train_with(other, tmp_path, measures, logger=other.pytorch.loggers.CSVLogger(tmp_path, "other", version=""))
    one, found = (logged(tmp_path / name) for name in ("one", "other"))
    measured = {name for name in one if name.startswith("reliance/")}
    assert names() <= measured == {name for name in found if name.startswith("reliance/")}
    assert all(one[name] == found[name] and len(one[name]) == 1 for name in measured)


def test_the_other_packages_weights_and_biases_gets_pictures_and_tables(monkeypatch, other):
    """What it makes of them is its own: tests/lm_modules/callbacks/test_reliance.py reads a run of W&B."""
    kind, given = other.pytorch.loggers.WandbLogger, []
    monkeypatch.setattr(kind, "log_image", lambda _, name, images, **more: given.append((name, images[0].size, more)))
    monkeypatch.setattr(kind, "log_table", lambda _, name, columns, data: given.append((name, columns, data)))
    loggers = [kind.__new__(kind)]
    assert shows_pictures(loggers)
    log_picture(loggers, "shown", torch.rand(3, 8, 6), "image", step=7)
    log_table(loggers, "rows", ["epoch"], [[3]])
    assert given == [("shown", (6, 8), {"caption": ["image"]}), ("rows", ["epoch"], [[3]])]


def test_the_other_packages_averaged_weights_must_come_after_it(tmp_path, other):
    averaging = other.pytorch.callbacks.EMAWeightAveraging()
    with pytest.raises(InputError, match="RelianceCallback must come before EMAWeightAveraging"):
        train_with(other, tmp_path, averaging, callback(network="net"), logger=False)
