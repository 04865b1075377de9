"""What can happen to a training, at a step of one's choice."""

import atexit
import os
import resource
import signal
import subprocess
import sys
import time
from typing import Literal

import pytorch_lightning as pl
from torch import distributed

Kind = Literal["kill", "term", "interrupt", "group", "wait", "nan", "full"]


class Interruption(pl.Callback):
    """Does something to its own process, after a training step or within the validation that follows it.

    A process that exits without leaving the others says so on standard error.

    Args:
        kind: "kill" for SIGKILL while a checkpoint is being written, "term" for SIGTERM,
            "interrupt" for SIGINT, "group" for SIGTERM to the process group, "wait" to wait for a signal from
            elsewhere, "nan" for a batch that holds no numbers, "full" for files that cannot grow beyond 10 kB any more.
        step: optimiser steps before it happens.
        rank: process that it happens to.
        validating: wait for the first batch of the next validation.
        batches: training batches to wait for after the step; they belong to the next one.
    """

    def __init__(self, kind: Kind, step: int, rank: int = 0, validating: bool = False, batches: int = 0) -> None:
        self.kind, self.step, self.rank, self.validating, self.batches = kind, step, rank, validating, batches
        self.handler = None
        atexit.register(lambda: distributed.is_initialized() and print("not left", file=sys.stderr))

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.handler = self.handler or signal.getsignal(signal.SIGTERM)
        if self.kind == "nan" and self._is_due(trainer):
            batch.images.fill_(float("nan"))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if not self.validating and self._is_due(trainer):
            if self.batches == 0:
                self._happen()
            self.batches -= 1

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        if self.validating and batch_idx == 0 and self._is_due(trainer):
            self._happen()

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        if self.kind == "kill" and not self.validating and self._is_due(trainer):
            checkpoint["bomb"] = Bomb()

    def _is_due(self, trainer):
        return (trainer.global_step, trainer.global_rank) == (self.step, self.rank)

    def _happen(self):
        if self.kind == "full":
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
        elif self.kind == "group":
            signalled = ["kill", "-TERM", "--", f"-{os.getpgid(0)}"]
            subprocess.run(signalled, check=True, start_new_session=True)  # loader processes obey their parent alone
        elif self.kind == "wait":
            print("waits for a signal", file=sys.stderr, flush=True)
            while signal.getsignal(signal.SIGTERM) == self.handler:  # which the first signal changes, or has changed
                time.sleep(0.05)
        elif self.kind in ("term", "interrupt"):
            os.kill(os.getpid(), signal.SIGTERM if self.kind == "term" else signal.SIGINT)


class Bomb:
    """Kills the process that pickles it."""

    def __reduce__(self):
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("a killed process goes on")
