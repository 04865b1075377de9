"""What a training says of its epochs: a table with a row for each, in a terminal and in a log alike."""

import sys
import time
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from maskrobust.lm_modules.training.module import TrainingModule

_COLUMNS = {
    "train/loss": "train loss",
    "val/loss": "val loss",
    "val/accuracy": "accuracy",
    "val/balanced_accuracy": "balanced",
    "val/accuracy_half_hidden": "half hidden",
}


class EpochRows(Callback):
    """Prints a row for each epoch, between the updates of the trainer's progress bar; nothing where it has none.

    Attributes:
        best: the best value so far and its epoch, from 1, by the name of what is monitored.
    """

    def __init__(self) -> None:
        self.best: dict[str, tuple[float, int]] = {}
        self._columns: list[str] = []

    def state_dict(self) -> dict[str, Any]:
        """The best values so far and their epochs, for a training that goes on from a checkpoint."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with them."""
        self.best = state_dict["best"]

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note a new best epoch in the state that `checkpoint` holds by now, for its file is written before its end."""
        self._note_best(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the time."""
        self._began = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the row; a training that resumes within an epoch has no time of it."""
        self._note_best(trainer)
        epoch = trainer.current_epoch + 1
        bar = trainer.progress_bar_callback
        if bar is None or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, TrainingModule)
        validated = pl_module.metrics if trainer.enable_validation else ()
        metrics = [name for name in _COLUMNS if name == "train/loss" or name in validated]
        if not self._columns:
            self._columns = [f"{'epoch':>9}", f"{'time':>8}", *(_COLUMNS[name] for name in metrics)]
            self._columns += [f"{'best so far':>17}"] * bool(self.best)
            bar.print("  ".join(self._columns))
        of = "" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs}"
        found = {name: f"{value.item():.4f}" for name, value in trainer.callback_metrics.items() if name in metrics}
        cells = [f"{epoch}{of}", f"{time.monotonic() - self._began:.0f} s" if hasattr(self, "_began") else "-"]
        cells += [found.get(name, "-") for name in metrics]
        cells += [", ".join(f"{score:.4f} (epoch {best})" for score, best in self.best.values())]
        bar.print("  ".join(each.rjust(len(name)) for each, name in zip(cells, self._columns, strict=False)))
        sys.stdout.flush()  # a log shows it now

    def best_values(self) -> Iterator[str]:
        """What checkpoints were chosen by: its best value and epoch, a line each."""
        for name, (score, epoch) in self.best.items():
            yield f"best {name} {score:.4f}, of epoch {epoch}"

    def _note_best(self, trainer: pl.Trainer) -> None:
        for each in trainer.checkpoint_callbacks:
            if isinstance(each, ModelCheckpoint) and each.monitor and each.best_model_score is not None:
                score = each.best_model_score.item()
                if self.best.get(each.monitor, (None,))[0] != score:
                    self.best[each.monitor] = score, trainer.current_epoch + 1
