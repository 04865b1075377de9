"""What can happen to a training, at a step of one's choice."""

import os
import resource
import signal
from typing import Literal

import pytorch_lightning as pl


class Interruption(pl.Callback):
    """Does something to its own process, after a training step or within the validation that follows it.

    Args:
        kind: "kill" for SIGKILL, "term" for SIGTERM, "interrupt" for SIGINT, "group" for SIGTERM to the process group,
            "nan" for a batch without a number in it, "full" for files that cannot grow beyond 1 kB any more.
        step: optimiser steps before it happens.
        rank: process that it happens to.
        validating: wait for the first batch of the next validation.
    """

    def __init__(
        self,
        kind: Literal["kill", "term", "interrupt", "group", "nan", "full"],
        step: int,
        rank: int = 0,
        validating: bool = False,
    ) -> None:
        self.kind, self.step, self.rank, self.validating = kind, step, rank, validating

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if self.kind == "nan" and self._is_due(trainer):
            batch.images.fill_(float("nan"))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if not self.validating and self._is_due(trainer):
            self._happen()

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        if self.validating and self._is_due(trainer):
            self._happen()

    def _is_due(self, trainer):
        return (trainer.global_step, trainer.global_rank) == (self.step, self.rank)

    def _happen(self):
        if self.kind == "full":
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        elif self.kind == "group":
            os.killpg(0, signal.SIGTERM)
        elif self.kind != "nan":
            os.kill(
                os.getpid(), {"kill": signal.SIGKILL, "term": signal.SIGTERM, "interrupt": signal.SIGINT}[self.kind]
            )
