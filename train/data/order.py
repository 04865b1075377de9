"""The order of training samples: a function of (seed, epoch), from wherever a run goes on."""

from collections.abc import Callable, Iterator
from itertools import cycle, islice
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import distributed
from torch.utils.data import DataLoader, DistributedSampler

from maskrobust.augment.batch import Batch
from maskrobust.augment.random import sample_keys


class Position(NamedTuple):
    """Where a training is.

    Attributes:
        epoch: counted from 0.
        batches: batches of that epoch that this process has trained on.
    """

    epoch: int
    batches: int


def training_position(trainer: pl.Trainer) -> Position:
    """What a training loader has to read next, according to what the trainer has counted as processed."""
    epochs: Any = trainer.fit_loop.epoch_progress.current
    batches: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    if epochs.ready == epochs.processed:  # between epochs, where the batches are still those of the last one
        return Position(epochs.processed, 0)
    if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch and batches.processed == batches.ready:
        return Position(epochs.processed + 1, 0)
    return Position(epochs.processed, batches.processed)


def rank_and_number() -> tuple[int, int]:
    """This process's rank among those that run together, and their number."""
    if not distributed.is_initialized():
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


class EpochSampler(DistributedSampler[int]):
    """A random order that is a function of (seed, epoch) alone, of which each process gets its share.

    Process r of n takes samples r, r + n, ... of the order, which repeats its first samples where n does not divide it:
    together they train on what one process with n times the batch size would. Being a `DistributedSampler`, Lightning
    leaves it as it is.

    Args:
        num_samples: number of samples, over all processes.
        seed: decides the order, together with the epoch.
        batch_size: samples in a batch of one process.
        position: tells which epoch a pass reads, and how many of its batches it leaves out; None where nobody knows:
            each pass then moves on to the next epoch.
    """

    def __init__(
        self, num_samples: int, seed: int, batch_size: int, position: Callable[[], Position | None] = lambda: None
    ) -> None:
        rank, number = rank_and_number()
        samples = range(num_samples)
        super().__init__(samples, num_replicas=number, rank=rank, seed=seed)  # type: ignore[arg-type] # any Sized will do
        self.batch_size = batch_size
        self.position = position

    def order(self, epoch: int) -> list[int]:
        """Indices of all samples in the order of `epoch`."""
        key = int(sample_keys(self.seed, torch.tensor([epoch])))
        generator = torch.Generator().manual_seed(key)
        order: list[int] = torch.randperm(len(self.dataset), generator=generator).tolist()  # type: ignore[arg-type]
        return order

    def __iter__(self) -> Iterator[int]:
        epoch, batches = self.position() or Position(self.epoch, 0)
        self.epoch = epoch + 1
        dealt = islice(cycle(self.order(epoch)), self.rank, self.total_size, self.num_replicas)
        return islice(dealt, batches * self.batch_size, None)


class TrainingLoader(DataLoader[Batch]):
    """A loader with an `EpochSampler`, which goes on where its data module says.

    These two methods tell Lightning that it may be started within an epoch; there is nothing for it to keep.
    """

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do nothing."""
