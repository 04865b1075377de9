"""How fast a training runs, and how much of its time it waits for data."""

import time

import pytorch_lightning as pl

from maskrobust.augment import Batch


class Throughput(pl.Callback):
    """Logs how fast images go through the training, and whether the training step is starved.

    Every logger gets two numbers, each over the steps since they were last logged (every `log_every_n_steps`):

    - ``train/images_per_second``: over all processes.
    - ``train/data_wait``: fraction in [0, 1] of the time that lies between the end of a step and the start of the next.
      There the loop fetches a batch and moves it to the device; it also writes logs, and checkpoints that are saved
      within an epoch.

    Validation counts for neither, nor does the pause after it. Time is that of the process: the device is never waited
    for, so on a GPU single steps are off and their mean is right.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._step = 0
        self._reset()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to count."""
        self._since = None
        self._reset()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Wait for the first batch."""
        self._since = time.perf_counter()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Add the wait that is over."""
        now = time.perf_counter()
        if self._since is not None:
            self._waited += now - self._since
        self._since = now
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        """Add the step that is over, and log where that is due."""
        now = time.perf_counter()
        assert self._since is not None
        self._worked += now - self._since
        self._since = now
        self._images += len(batch.ids) * trainer.world_size
        if self._is_due(trainer):
            elapsed = self._waited + self._worked
            pl_module.log("train/images_per_second", self._images / elapsed, batch_size=1)
            pl_module.log("train/data_wait", self._waited / elapsed, batch_size=1)
            self._reset()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave out the pause."""
        self._since = None

    def _is_due(self, trainer: pl.Trainer) -> bool:
        """Whether this batch has ended an optimiser step of those that are logged."""
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set, but not declared
        return every > 0 and trainer.global_step > self._step and trainer.global_step % every == 0

    def _reset(self) -> None:
        self._waited = self._worked = 0.0
        self._images = 0
