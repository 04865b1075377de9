"""Callback that keeps last.ckpt current, and saves it on SIGTERM and Ctrl-C."""

import signal
import sys
import threading
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy

from maskrobust.errors import UnreadableError, check_at_least
from maskrobust.lm_modules.training.processes import leave_others_at_exit, note_progress

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class LastCheckpoint(ModelCheckpoint):
    """Writes last.ckpt after every epoch, every few steps where asked, and when told to stop.

    On SIGTERM or Ctrl-C, in any of the processes that train together, all of them finish the optimiser step, or where
    there are several the next one, save, and exit: rank 0 with status 128 plus the number of the signal (143, 130)
    after one line on standard error, the others with 0. After the last step of an epoch, and within a validation, they
    finish the validation first. A second signal acts at once.

    Where a file of the data cannot be read, the process that has met it saves the state before it ends, if each process
    has all of the state: under any strategy but sharded ones. Running statistics of batch norm are then its own.

    Args:
        every_n_train_steps: optimiser steps between two savings within an epoch, at least 1; None saves none.

    Attributes:
        signals: what this process has received, and in a step what any has.

    Raises:
        InputError: `every_n_train_steps` is below 1.
    """

    def __init__(self, every_n_train_steps: int | None = None) -> None:
        if every_n_train_steps is not None:
            check_at_least("every_n_train_steps", every_n_train_steps, 1)
        super().__init__(filename=self.CHECKPOINT_NAME_LAST, save_top_k=0)
        self.interval = every_n_train_steps
        self.signals = StopSignals()
        self._saved_step = self._seen_step = 0

    @property
    def path(self) -> str:
        """Where the newest state is, or will be."""
        return self.format_checkpoint_name({})

    def state_dict(self) -> dict[str, Any]:
        """Nothing: there is always one file, in the folder of the run that writes it."""
        return {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen to signals, and count steps from here."""
        self.signals.listen()
        _end_finished_epoch(trainer)
        self._saved_step = self._seen_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save after an optimiser step where that is due, unless the epoch ends with it."""
        received = self.signals.received_in_step(trainer)
        has_stepped, self._seen_step = trainer.global_step > self._seen_step, trainer.global_step
        if has_stepped and not trainer.is_last_batch:
            if received or (self.interval is not None and trainer.global_step >= self._saved_step + self.interval):
                self._save(trainer)
            self._stop(trainer, received)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the state after an epoch, and stop where asked."""
        self._save(trainer)
        self._stop(trainer, self.signals.received(trainer))

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave the signals to whoever had them before, and save the state where the data are to blame."""
        self.signals.close()
        is_whole = type(trainer.strategy) in (SingleDeviceStrategy, DDPStrategy)
        if isinstance(exception, UnreadableError) and is_whole and trainer.global_step > self._saved_step:
            # `Trainer.save_checkpoint` waits for the other processes, which wait for this one's next step
            state = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
            trainer.strategy.checkpoint_io.save_checkpoint(state, self.path)
            why = str(exception).rpartition("UnreadableError: ")[2]  # a loader process sends its traceback, too
            told = f"{why} The state after {trainer.global_step} steps is in '{self.path}'"
            print(f"maskrobust: {told}; call the same command with --ckpt_path last to go on.", file=sys.stderr)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the signals to whoever had them before."""
        self.signals.close()

    def _save(self, trainer: pl.Trainer) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self.last_model_path = self.path  # where loggers that upload checkpoints look
        trainer.save_checkpoint(self.path, weights_only=False)
        self._saved_step = trainer.global_step
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.after_save_checkpoint(self)

    def _stop(self, trainer: pl.Trainer, received: int) -> None:
        """Exit where a signal was received; rank 0 alone with its status.

        Where Lightning has started the other processes, it kills rank 0 as soon as one exits with another than 0.
        """
        if not received:
            return
        leave_others_at_exit()
        if not trainer.is_global_zero:
            raise SystemExit(0)
        note_progress()  # not in `_save`: a training that fails by itself later is not put back
        name = signal.Signals(received).name
        where = f"the state is in '{self.path}'; call the same command with --ckpt_path last to go on"
        print(f"maskrobust: stopped by {name} after {trainer.global_step} steps; {where}.", file=sys.stderr)
        raise SystemExit(128 + received)


def _end_finished_epoch(trainer: pl.Trainer) -> None:
    """Begin a new epoch where the state was saved after one: given max_steps, Lightning would end that one again.

    It would then count it twice, and the order of samples goes by that count.
    """
    loop = trainer.fit_loop
    epochs: Any = loop.epoch_progress.current
    if loop.restarting and epochs.ready == epochs.processed > epochs.completed:
        loop.epoch_progress.increment_completed()
        for each in (loop, loop.epoch_loop, loop.epoch_loop.val_loop):
            each.on_iteration_done()


class StopSignals:
    """Keeps the first SIGTERM or SIGINT (Ctrl-C) that comes while it listens; a second one acts as it always does.

    Attributes:
        own: number of the signal that this process has received; 0 for none.
        agreed: that of any process, as of the current step; None where it was not exchanged.
    """

    def __init__(self) -> None:
        self.own = 0
        self.agreed: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def listen(self) -> None:
        """Take the signals over, from Lightning too, whose handler starts a collective operation on its own."""
        if self._before or threading.current_thread() is not threading.main_thread():
            return
        self._before = {each: signal.signal(each, self._keep) for each in _SIGNALS}

    def close(self) -> None:
        """Leave the signals to whoever had them before; where one has come, the next still acts as it always does.

        Lightning's handler of SIGTERM would wait for the other processes, which may have ended by then.
        """
        if not self.own:
            for each, handler in self._before.items():
                signal.signal(each, handler)
        self._before = {}

    def received(self, trainer: pl.Trainer) -> int:
        """Number of a signal that any of the processes has received; 0 for none. Every process must ask, and waits.

        A single process needs no collective.
        """
        if trainer.world_size == 1:
            return self.own
        own = torch.tensor(self.own, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(own, reduce_op="max"))

    def received_in_step(self, trainer: pl.Trainer) -> int:
        """Likewise, without waiting where `FiniteLoss` has exchanged the number before the step, with its own."""
        agreed, self.agreed = self.agreed, None
        return self.received(trainer) if agreed is None else agreed

    def _keep(self, number: int, _frame: FrameType | None) -> None:
        self.own = number
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
