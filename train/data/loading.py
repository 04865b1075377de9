"""Load batches: the training order as a function of (seed, epoch), resuming, and loader processes."""

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle, islice
from types import TracebackType
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import distributed
from torch.utils.data import DataLoader, Dataset, DistributedSampler, default_collate, default_convert

from maskrobust.augment.batch import Batch
from maskrobust.augment.random import sample_key


class Position(NamedTuple):
    """Where a training is.

    Attributes:
        epoch: counted from 0.
        batches: batches of that epoch that this process has trained on.
    """

    epoch: int
    batches: int


def training_position(trainer: pl.Trainer) -> Position:
    """The batch that a training loader has to read next, by the trainer's counts of processed batches."""
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
    """A random order that is a function of (seed, epoch) alone, divided among the processes.

    Process r of n takes samples r, r + n, ... of the order, which repeats its first samples where n does not divide it:
    together they train on what one process with n times the batch size would. It yields i + epoch x number of samples
    for the i-th one. Lightning does not replace a `DistributedSampler`.

    Args:
        num_samples: number of samples, over all processes.
        seed: decides the order, together with the epoch.
        batch_size: samples in a batch of one process.
        position: returns the epoch to read and the number of its batches to leave out; None to read the epoch after the
            last one.
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
        """Index i + epoch x number of samples of all samples, in the order of `epoch`."""
        generator = torch.Generator().manual_seed(sample_key(self.seed, epoch))
        number = len(self.dataset)  # type: ignore[arg-type]
        order: list[int] = (torch.randperm(number, generator=generator) + epoch * number).tolist()
        return order

    def __iter__(self) -> Iterator[int]:
        position = self.position() or Position(self.epoch, 0)
        self.epoch = position.epoch + 1
        dealt = islice(cycle(self.order(position.epoch)), self.rank, self.total_size, self.num_replicas)
        return islice(dealt, position.batches * self.batch_size, None)


class TrainingLoader(DataLoader[Batch]):
    """A loader of training batches that begins to read where its first batch is asked for.

    Lightning starts a loader before it has restored its counts from a checkpoint. Two methods tell it that the loader
    may start within an epoch; the position is its sampler's or its data set's.

    Args:
        dataset: a data set.
        begin: called where a pass begins.
        options: options for a `DataLoader`.
    """

    def __init__(self, dataset: Dataset[Batch], begin: Callable[[], object] = lambda: None, **options: Any) -> None:
        super().__init__(dataset, **options)
        self.begin = begin

    def __iter__(self) -> Any:
        self.begin()
        yield from super().__iter__()

    def draw_by(self, draw: Callable[[Batch], Any]) -> None:
        """Yield what a function makes of each batch, from the next pass on; loader processes call it."""
        self.collate_fn = draw

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do nothing."""


def loading_options(num_workers: int) -> dict[str, Any]:
    """Arguments of a `DataLoader` that say how it loads: in processes that stay, into pinned memory for a GPU.

    It takes what it fetches as it is, as a whole batch that `__getitems__` returns.

    Args:
        num_workers: loader processes; 0 to load in this process.
    """
    return {
        "collate_fn": default_convert,
        "num_workers": num_workers,
        "pin_memory": torch.cuda.is_available(),
        "persistent_workers": num_workers > 0,
        "worker_init_fn": begin_worker,
    }


def collate(samples: Iterable[Batch]) -> Batch:
    """Samples, whose tensors lack the leading dimension, as one `Batch`."""
    return Batch(*default_collate([tuple(each for each in sample if each is not None) for sample in samples]))


def begin_worker(_worker: int) -> None:
    """Let a loader process ignore SIGINT, and any SIGTERM but its parent's.

    It also shares the memory of its parent's objects, which the garbage collector would write to.

    A scheduler or a terminal signals every process of a run at once; the training then finishes its step and saves a
    checkpoint, for which it still needs its loader processes.
    """
    gc.freeze()
    if "cv2" in sys.modules:  # whose threads would be as many as processors, in each of these processes
        sys.modules["cv2"].setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = _ignore_hang_ups
    if not hasattr(signal, "sigwaitinfo"):  # macOS does not tell the sender of a signal
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_on_sigterm_of_parent, name="outlive-stop-signals", daemon=True).start()


def _ignore_hang_ups(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print no traceback where the parent was stopped while it took a batch, which multiprocessing reports."""
    if not issubclass(kind, EOFError | ConnectionError):
        sys.__excepthook__(kind, error, trace)


def _end_on_sigterm_of_parent() -> None:
    parent = os.getppid()
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
