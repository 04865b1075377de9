"""Progress of a claim on the terminal: runs finished, epochs of the run under way, batches of its evaluation."""

import pytorch_lightning as pl
from pytorch_lightning.callbacks import LambdaCallback
from rich.console import Console

from maskrobust.train.running.progress import CountingDisplay


class Progress(CountingDisplay):
    """A live display as a context manager; on a stream that is no terminal, lines: for each run, and now and then.

    Args:
        console: to write to.
        runs: number of runs of the whole claim.

    Attributes:
        all_runs: the task that counts runs.
        current: the task that counts steps of what `begin` has named.
    """

    def __init__(self, console: Console, runs: int) -> None:
        super().__init__(console)
        self.all_runs = self.add_task("all runs", total=runs)
        self.current = self.add_task("", total=None, visible=False)

    def begin(self, activity: str, what: str) -> None:
        """Say what begins: an activity such as "training", and of what."""
        if not self.console.is_terminal:
            self.console.print(f"{activity:<10} {what}", markup=False)
        self.reset(self.current, description=f"{activity} {what}", total=None, visible=True)

    def lightning_callback(self) -> pl.Callback:
        """A callback that counts training steps on the display."""

        def count_from(trainer: pl.Trainer, _: pl.LightningModule) -> None:
            total = int(trainer.estimated_stepping_batches)
            self.update(self.current, total=total, completed=trainer.global_step)

        return LambdaCallback(on_train_start=count_from, on_train_batch_end=lambda *_: self.advance(self.current))
