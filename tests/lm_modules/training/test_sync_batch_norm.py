"""Two processes: a training step of synchronised batch norms equals that of one process with the whole batch.

DistributedDataParallel refuses synchronised batch norm on a CPU; averaging the gradients is what else it does.
"""

from contextlib import ExitStack

import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import nn

from maskrobust.augment import Batch
from maskrobust.errors import InputError
from maskrobust.lm_modules.networks.architectures import build_network
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.lm_modules.training.processes import KeepingSyncBatchNorm
from tests.lm_modules.masking.networks import randomise
from tests.processes import started

OBJECTIVES: tuple[str, ...] = ("cross_entropy", "consistency")
RANKS = 2


def prepared(objective):
    torch.manual_seed(0)
    classifier = MaskRobustClassifier(
        "small_resnet",
        4,
        architecture_options={"width": 16},
        masking="layer_masking",
        objective=objective,
        mask_probability=0.7,
        patch_size=8,
    ).double()
    nn.SyncBatchNorm.convert_sync_batchnorm(classifier)
    classifier.log = lambda *_args, **_options: None
    classifier.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    classifier.on_fit_start()
    return classifier


def whole_batch():
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(8, 3, 32, 32, generator=generator, dtype=torch.float64)
    labels = torch.randint(4, (8,), generator=generator)
    return Batch(torch.arange(8), images, torch.zeros(8, 1, 32, 32, dtype=torch.bool), labels)


def after_step(objective, batch):
    """Gradients and running statistics that a training step leaves."""
    classifier = prepared(objective)
    classifier.training_step(batch, 0).backward()
    gradients = {name: each.grad for name, each in classifier.named_parameters() if each.grad is not None}
    return gradients | dict(classifier.named_buffers())


def run_rank(rank, folder):
    """What one of the processes does."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS)
    own = Batch(*(tensor.chunk(RANKS)[rank] for tensor in whole_batch() if tensor is not None))
    torch.save({objective: after_step(objective, own) for objective in OBJECTIVES}, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    folder, said = tmp_path_factory.mktemp("ranks"), tmp_path_factory.mktemp("said") / "errors"
    with ExitStack() as stack:
        processes = [stack.enter_context(started(run_rank, rank, folder, errors=said)) for rank in range(RANKS)]
        assert [process.wait() for process in processes] == [0, 0], said.read_text()
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(RANKS)]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_two_processes_with_half_of_the_batch_each_equal_one_with_all_of_it(objective, ranks):
    expected, (first, second) = after_step(objective, whole_batch()), (rank[objective] for rank in ranks)
    assert expected.keys() == first.keys() == second.keys()
    for name, tensor in expected.items():
        found = first[name] if "running" in name or "num_batches" in name else (first[name] + second[name]) / 2
        torch.testing.assert_close(found, tensor, rtol=1e-8, atol=1e-9)
    alone = prepared(objective)
    assert not any(torch.equal(first[name], buffer) for name, buffer in alone.named_buffers())


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
