"""Progress of a claim on the terminal: runs finished, epochs of the run under way, batches of its evaluation."""

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from maskrobust.augment import Batch


class Progress:
    """A live display as a context manager; on a stream that is no terminal, one line for each run.

    Args:
        console: to write to.
        runs: number of runs of the whole claim.
    """

    def __init__(self, console: Console, runs: int) -> None:
        self._console = console
        self._display = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._all = self._display.add_task("all runs", total=runs)
        self._current = self._display.add_task("", total=None, visible=False)

    def __enter__(self) -> Self:
        self._display.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._display.stop()

    def start_run(self, title: str, seed: int, epochs: int) -> None:
        """Say that training begins."""
        self._begin(f"train {title}, seed {seed}", f"training   {title}, seed {seed}: {epochs} epochs")

    def start_evaluation(self, title: str, seed: int) -> None:
        """Say that the evaluation of a trained network begins."""
        self._begin(f"measure {title}, seed {seed}", f"measuring  {title}, seed {seed}")

    def start_calibration(self, title: str, seed: int) -> None:
        """Say that the logits of a trained network are being calibrated."""
        self._begin(f"calibrate {title}, seed {seed}", f"calibrating {title}, seed {seed}")

    def start_probe(self) -> None:
        """Say that the mask-only probe is being trained."""
        self._begin("train the mask-only probe", "training   the mask-only probe")

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

    def _begin(self, description: str, line: str) -> None:
        if not self._console.is_terminal:
            self._console.print(line, markup=False)
        self._display.reset(self._current, description=description, total=None, visible=True)


class _CountSteps(pl.Callback):
    def __init__(self, display: RichProgress, task: Any) -> None:
        self._display = display
        self._task = task

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        total = int(trainer.estimated_stepping_batches)
        self._display.update(self._task, total=total, completed=trainer.global_step)

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        self._display.advance(self._task)
