"""A training step on two processes: the gradients of one process with the whole batch, batch statistics included.

DistributedDataParallel refuses synchronised batch norm on a CPU; averaging the gradients is what else it does.
"""

from contextlib import ExitStack

import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import nn

from maskrobust.augment import Batch
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from tests.processes import started

OBJECTIVES: tuple[str, ...] = ("cross_entropy", "consistency")
RANKS = 2


def build(objective):
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
    classifier = build(objective)
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
    alone = build(objective)
    assert not any(torch.equal(first[name], buffer) for name, buffer in alone.named_buffers())
