"""Batch norms that are synchronised and reverted, with what libraries have added to them."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from maskrobust.errors import InputError
from maskrobust.lm_modules.networks.architectures import build_network
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.lm_modules.training.processes import KeepingSyncBatchNorm
from tests.lm_modules.masking.networks import randomise

NETWORKS = ("timm/test_efficientnet", "timm/test_byobnet", "small_resnet")


def network_of(name):
    torch.manual_seed(0)
    return randomise(build_network(name, 4)).eval()


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_conversion_and_its_reverse_keep_the_outputs_of_a_network(name):
    network, images = network_of(name), torch.randn(2, 3, 64, 64)
    classes, keys, expected = [type(module) for module in network.modules()], [*network.state_dict()], network(images)
    sync = KeepingSyncBatchNorm()
    converted = sync.apply(network)
    assert all(isinstance(each, nn.SyncBatchNorm) for each in converted.modules() if hasattr(each, "running_mean"))
    assert [*converted.state_dict()] == keys
    torch.testing.assert_close(converted(images), expected)
    reverted = sync.revert(converted)
    assert [type(module) for module in reverted.modules()] == classes
    torch.testing.assert_close(reverted(images), expected)


def test_the_statistics_that_a_converted_network_has_learnt_stay_when_it_is_converted_back():
    network, sync = network_of("timm/test_efficientnet"), KeepingSyncBatchNorm()
    converted = sync.apply(network).double()
    for buffer in converted.buffers():
        buffer.add_(1)
    expected = {name: tensor.clone() for name, tensor in converted.state_dict().items()}
    assert all(torch.equal(tensor, expected[name]) for name, tensor in sync.revert(converted).state_dict().items())


def test_a_module_under_two_names_stays_one_module():
    norm = nn.BatchNorm2d(3)
    converted = KeepingSyncBatchNorm().apply(nn.Sequential(norm, nn.ReLU(), norm))
    assert isinstance(converted[0], nn.SyncBatchNorm) and converted[0] is converted[2]


class Doubled(nn.BatchNorm2d):
    """Does more than to normalise, and no converter knows it."""

    def forward(self, x):
        return 2 * super().forward(x)


def test_a_batch_norm_whose_output_would_change_is_refused():
    with pytest.raises(InputError, match="got Doubled at '1', whose output changes when it becomes SyncBatchNorm"):
        KeepingSyncBatchNorm().apply(nn.Sequential(nn.ReLU(), Doubled(3)))


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
