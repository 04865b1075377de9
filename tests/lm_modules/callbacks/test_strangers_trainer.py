"""The reliance callback in a training that knows nothing of maskrobust: its own module, its own batches."""

import os
from contextlib import ExitStack

import pytest
import pytorch_lightning as pl
import timm
import torch
import torch.nn.functional as F
from lightning_fabric.plugins.environments.lightning import find_free_network_port
from pytorch_lightning.strategies import DDPStrategy
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from maskrobust import Preprocessing, TrainedNetwork
from maskrobust.errors import InputError
from maskrobust.lm_modules.callbacks import RelianceCallback
from tests.lm_modules.callbacks.runs import PLAN, TRAINING, VALIDATION, Shapes, csv_logger, logged
from tests.lm_modules.masking.networks import seeded
from tests.lm_modules.reliance.shapes import NUM_CLASSES
from tests.processes import started
from tests.trainers import quiet_trainer

METHODS = ("black", "layer_masking")
MEASURES = ("silhouette_leak", "shape_choice", "retention_0.5")


class Strangers(pl.LightningModule):
    """A ResNet of timm's, trained on pairs of normalised images and labels."""

    def __init__(self):
        super().__init__()
        self.net = seeded(lambda: timm.create_model("test_resnet", num_classes=NUM_CLASSES))

    def training_step(self, batch, batch_idx):
        images, labels = batch
        return F.cross_entropy(self.net(images), labels)

    def validation_step(self, batch, batch_idx):
        images, labels = batch
        self.log("val_loss", F.cross_entropy(self.net(images), labels), sync_dist=True)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


class Described(Shapes):
    """Data to measure on, which say how they are normalised."""

    num_classes, mean, std = NUM_CLASSES, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


def normalised(batches):
    mean, std = (torch.tensor(each)[:, None, None] for each in (Described.mean, Described.std))
    pairs = [(images, labels) for _, images, _, labels, _ in batches]
    images, labels = (torch.cat(each) for each in zip(*pairs, strict=True))
    return DataLoader(TensorDataset((images - mean) / std, labels), batch_size=8)


def train(folder, *callbacks, module=None, **options):
    torch.manual_seed(3)
    module = module or Strangers()
    given = {"logger": csv_logger(folder), "log_every_n_steps": 1, "callbacks": [*callbacks], **options}
    trainer = quiet_trainer(max_epochs=2, **given)
    trainer.fit(module, normalised(TRAINING), normalised(VALIDATION))
    return module


def callback(**options):
    return RelianceCallback(METHODS, plan=PLAN, **{"data": Described(), **options})


def names():
    return {f"reliance/{method}/{measure}" for method in METHODS for measure in MEASURES}


def own_function(module):
    shown = Preprocessing(Described.mean, Described.std)
    return TrainedNetwork("mine", module.net, shown, NUM_CLASSES, channels_last=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folders and modules of three trainings, two of them measured; and what the first has said."""
    folder, said = tmp_path_factory.mktemp("trained"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("maskrobust.lm_modules.callbacks.reliance.rank_zero_info", said.append)
        modules = {"name": train(folder / "name", callback(network="net"))}
    modules |= {
        "function": train(folder / "function", callback(network=own_function)),
        "unmeasured": train(folder / "unmeasured"),
    }
    return folder, modules, said


def test_a_strangers_network_is_measured_each_epoch_and_its_training_is_undisturbed(trained):
    folder, modules, _ = trained
    numbers = logged(folder / "name")
    assert names() <= set(numbers) and all(len(numbers[name]) == 2 for name in names())
    for measured in ("name", "function"):
        for name, weights in modules["unmeasured"].state_dict().items():
            found = modules[measured].state_dict()[name]
            assert torch.equal(found, weights) and found.stride() == weights.stride(), name


def test_a_network_named_by_its_attribute_is_shown_images_normalised_as_the_data_say(trained):
    folder, _, said = trained
    (line,) = (each for each in said if "normalised" in each)
    assert "'net' is shown images normalised as those of Described, by mean (0.4, 0.5, 0.6) and std (0.2," in line
    assert logged(folder / "name") == logged(folder / "function")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, r"needs the network that Strangers trains, got none; .*network='net'"),
        ({"network": "nett"}, r"path of a module in Strangers, got 'nett' \(did you mean net\?\)"),
        ({"network": "net", "data": Shapes()}, "must say num_classes, mean and std, but Shapes lacks"),
        ({"network": "net", "data": None}, "needs a data module with annotated_batches"),
    ],
)
def test_what_a_stranger_left_out_is_named(options, named, tmp_path):
    with pytest.raises(InputError, match=named):
        train(tmp_path, callback(**options))


class Frozen(Strangers):
    """Whose weights and statistics no training changes, so that it does not matter which process sees which image."""

    def __init__(self):
        super().__init__()
        for each in self.modules():
            if isinstance(each, nn.BatchNorm2d):
                each.momentum = 0.0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def train_rank(rank, port, folder):
    """What one of two processes does, as torchrun starts it."""
    place = {"LOCAL_RANK": rank, "NODE_RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})
    strategy = DDPStrategy(process_group_backend="gloo")
    train(folder, callback(network="net"), module=Frozen(), devices=2, strategy=strategy)


def test_two_processes_log_what_one_does(tmp_path):
    train(tmp_path / "one", callback(network="net"), module=Frozen())
    said, port = tmp_path / "said", find_free_network_port()
    with ExitStack() as stack:
        ranks = [started(train_rank, rank, port, tmp_path / "two", errors=said) for rank in range(2)]
        processes = [stack.enter_context(each) for each in ranks]
        assert [process.wait() for process in processes] == [0, 0], said.read_text()
    one, two = (logged(tmp_path / each) for each in ("one", "two"))
    found = {name for name in one if name.startswith("reliance/")}
    assert names() <= found
    for name in found:
        assert two[name] == pytest.approx(one[name], abs=1e-6) and len(two[name]) == 2, name
