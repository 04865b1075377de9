"""Batch norms that are synchronised, with what libraries have added to them."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from maskrobust.errors import InputError
from maskrobust.lm_modules.networks.architectures import build_network
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.lm_modules.training.processes import KeepingSyncBatchNorm
from tests.conftest import refused
from tests.lm_modules.masking.networks import randomise

NETWORKS = ("timm/test_efficientnet", "timm/test_byobnet", "small_resnet")


def network_of(name):
    torch.manual_seed(0)
    return randomise(build_network(name, 4)).eval()


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_a_converted_network_keeps_its_outputs_and_weights(name):
    network, images = network_of(name), torch.randn(2, 3, 64, 64)
    keys, expected = [*network.state_dict()], network(images)
    sync = KeepingSyncBatchNorm()
    converted = sync.apply(network)
    assert all(isinstance(each, nn.SyncBatchNorm) for each in converted.modules() if hasattr(each, "running_mean"))
    assert [*converted.state_dict()] == keys
    torch.testing.assert_close(sync.revert(converted)(images), expected)


class Doubled(nn.BatchNorm2d):
    """Does more than to normalise, and no converter knows it."""

    def forward(self, x):
        return 2 * super().forward(x)


def test_a_batch_norm_that_is_not_converted_whole_is_refused():
    norm = nn.BatchNorm2d(3)
    for network, named in ((nn.Sequential(nn.ReLU(), Doubled(3)), "'1' (Doubled)"), (nn.Sequential(norm, norm), "'1'")):
        with refused(InputError, named, match="each of one name"):
            KeepingSyncBatchNorm().apply(network)


@torch.no_grad()
def test_a_trainer_that_synchronises_batch_norm_keeps_the_activations_of_timm():
    classifier = MaskRobustClassifier("timm/test_efficientnet", 4).eval()
    images = torch.rand(2, 3, 64, 64)
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, strategy="ddp", sync_batchnorm=True, logger=False, enable_checkpointing=False
    )
    expected = classifier(images)
    classifier.trainer = trainer
    classifier.setup("fit")
    torch.testing.assert_close(trainer.strategy._layer_sync.apply(classifier)(images), expected)
