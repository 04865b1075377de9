"""Print a line every half minute about a training without a terminal."""

from math import isfinite
from typing import Any

import pytorch_lightning as pl
from rich.console import Console

from maskrobust.train.running.progress import CountingDisplay


class ProgressLines(pl.Callback):
    """Where standard error is no terminal, says each half minute on it where the training is, and how long it takes.

    On a terminal Lightning's bar says it. Of several processes the first speaks.
    """

    def __init__(self) -> None:
        self._display: CountingDisplay | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to speak."""
        console = Console(stderr=True)
        console.quiet = console.is_terminal or not trainer.is_global_zero
        self._display = CountingDisplay(console)
        self._display.add_task("preparing the training", total=None)
        self._display.start()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count steps from here."""
        steps = trainer.estimated_stepping_batches
        self._change(total=int(steps) if isfinite(steps) else None)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Name the epoch, and how good the network was after the last one."""
        epoch = f"epoch {trainer.current_epoch + 1}"
        if trainer.max_epochs is not None and trainer.max_epochs > 0:
            epoch += f" of {trainer.max_epochs}"
        accuracy = trainer.callback_metrics.get("val/accuracy")
        so_far = "" if accuracy is None else f", val/accuracy {100 * float(accuracy):.1f} %"
        self._change(description=f"training ({epoch}{so_far}), steps", completed=trainer.global_step)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Count."""
        self._change(completed=trainer.global_step)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Speak of the validation, too, which measures of reliance may make long."""
        if self._display is not None:
            self._validation = self._display.add_task("validating", total=None)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say that the validation is over."""
        if self._display is not None:
            self._display.remove_task(self._validation)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say no more."""
        self._stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Say no more."""
        self._stop()

    def _change(self, **values: Any) -> None:
        if self._display is not None:
            self._display.update(self._display.task_ids[0], **values)

    def _stop(self) -> None:
        if self._display is not None:
            self._display.stop()
