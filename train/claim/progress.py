"""Progress of a claim on the terminal: runs finished, epochs of the run under way, batches of its evaluation."""

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import Progress as RichProgress

from maskrobust.augment import Batch
from maskrobust.train.running.progress import CountingDisplay


class Progress:
    """A live display as a context manager; on a stream that is no terminal, lines: for each run, and now and then.

    Args:
        console: to write to.
        runs: number of runs of the whole claim.
    """

    def __init__(self, console: Console, runs: int) -> None:
        self._console = console
        self._display = CountingDisplay(console)
        self._all = self._display.add_task("all runs", total=runs)
        self._current = self._display.add_task("", total=None, visible=False)

    def __enter__(self) -> Self:
        self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._display.stop()

    def start(self, activity: str, what: str) -> None:
        """Say what begins: an activity such as "training", and of what."""
        if not self._console.is_terminal:
            self._console.print(f"{activity:<10} {what}", markup=False)
        self._display.reset(self._current, description=f"{activity} {what}", total=None, visible=True)

    def finish_run(self) -> None:
        """Count a run as finished."""
        self._display.advance(self._all)

    def track_batches(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches, counted on the display."""
        for batch in batches:
            yield batch
            self._display.advance(self._current)

    def lightning_callback(self) -> pl.Callback:
        """A callback that counts training steps on the display."""
        return _CountSteps(self._display, self._current)


class _CountSteps(pl.Callback):
    def __init__(self, display: RichProgress, task: Any) -> None:
        self._display = display
        self._task = task

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        total = int(trainer.estimated_stepping_batches)
        self._display.update(self._task, total=total, completed=trainer.global_step)

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        self._display.advance(self._task)
