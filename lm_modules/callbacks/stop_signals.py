"""Signals that ask a process to stop, kept until it is a good moment."""

import signal
import threading
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Keeps the first SIGTERM or SIGINT (Ctrl-C) that comes while it listens; a second one acts as it always does."""

    def __init__(self) -> None:
        self._received = 0
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
        if not self._received:
            for each, handler in self._before.items():
                signal.signal(each, handler)
        self._before = {}

    def received(self, trainer: pl.Trainer) -> int:
        """Number of a signal that any of the processes has received; 0 for none. Every process must ask.

        A single process needs no collective. Several exchange one number, beside the one that Lightning has them
        exchange in each step anyway.
        """
        if trainer.world_size == 1:
            return self._received
        own = torch.tensor(self._received, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(own, reduce_op="max"))

    def _keep(self, number: int, _frame: FrameType | None) -> None:
        self._received = number
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
