"""Progress of a claim on the terminal: runs finished, epochs of the run under way, batches of its evaluation."""

from collections.abc import Iterable, Iterator
from typing import Any

import pytorch_lightning as pl
from rich.console import Console

from maskrobust.augment import Batch
from maskrobust.train.running.progress import CountingDisplay


class Progress(CountingDisplay):
    """A live display as a context manager; on a stream that is no terminal, lines: for each run, and now and then.

    Args:
        console: to write to.
        runs: number of runs of the whole claim.
    """

    def __init__(self, console: Console, runs: int) -> None:
        super().__init__(console)
        self._all = self.add_task("all runs", total=runs)
        self._current = self.add_task("", total=None, visible=False)

    def begin(self, activity: str, what: str) -> None:
        """Say what begins: an activity such as "training", and of what."""
        if not self.console.is_terminal:
            self.console.print(f"{activity:<10} {what}", markup=False)
        self.reset(self._current, description=f"{activity} {what}", total=None, visible=True)

    def finish_run(self) -> None:
        """Count a run as finished."""
        self.advance(self._all)

    def track_batches(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches, counted on the display."""
        for batch in batches:
            yield batch
            self.advance(self._current)

    def lightning_callback(self) -> pl.Callback:
        """A callback that counts training steps on the display."""
        return _CountSteps(self, self._current)


class _CountSteps(pl.Callback):
    def __init__(self, display: Progress, task: Any) -> None:
        self._display = display
        self._task = task

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        total = int(trainer.estimated_stepping_batches)
        self._display.update(self._task, total=total, completed=trainer.global_step)

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        self._display.advance(self._task)
