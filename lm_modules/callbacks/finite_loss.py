"""Stopping at a loss that is NaN or infinite, before it reaches the weights."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor, distributed
from torch.optim import Optimizer

from maskrobust.errors import InputError
from maskrobust.lm_modules.callbacks.last_checkpoint import LastCheckpoint
from maskrobust.lm_modules.training.processes import of_all_ranks

RECORD = "not_finite.json"


class FiniteLoss(pl.Callback):
    """Ends the training when the loss of any process is NaN or infinite, before the optimiser takes its step.

    It writes not_finite.json beside the logs: step, epoch, learning rates, and of each process that is concerned its
    rank, loss and the ids of its batch. Gradients are not looked at: under fp16 they overflow now and then, which the
    loss scaling deals with.

    What costs time is waiting for a GPU. The loss is looked at on the GPU after the forward pass, and the answer read
    before the optimiser step, when the backward pass is queued already: the host waits for the forward pass alone,
    while the GPU is busy. Several processes exchange one number, on the GPU too.

    Raises:
        InputError: in rank 0, which names the files; the other processes exit with 0.
    """

    def __init__(self) -> None:
        self._pending: _Pending | None = None
        self._batch: Any = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the batch, whose ids may be asked for."""
        self._batch = batch

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Ask whether the loss is finite, without waiting for the answer."""
        loss = loss.detach()
        bad = (~loss.isfinite()).any().to(torch.uint8)
        if trainer.world_size > 1:
            distributed.all_reduce(bad, op=distributed.ReduceOp.MAX)
        answer = bad.to("cpu", non_blocking=True)
        arrived = None
        if bad.is_cuda:
            arrived = torch.cuda.Event()
            arrived.record()
        self._pending = _Pending(loss, answer, arrived)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Read the answer."""
        self._check(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Read the answer for a batch whose gradient is accumulated."""
        self._check(trainer)

    def _check(self, trainer: pl.Trainer) -> None:
        if self._pending is None:
            return
        loss, answer, arrived = self._pending
        self._pending = None
        if arrived is not None:
            arrived.synchronize()
        if bool(answer):
            self._stop(trainer, loss)

    def _stop(self, trainer: pl.Trainer, loss: Tensor) -> None:
        concerned = [
            {"rank": rank, "loss": str(value), "ids": ids}
            for rank, (value, ids) in enumerate(of_all_ranks((loss.item(), self._batch.ids.tolist())))
            if not torch.tensor(value).isfinite()
        ]
        folder = Path(trainer.log_dir or trainer.default_root_dir)  # a collective operation: every process must ask
        if not trainer.is_global_zero:
            raise SystemExit(0)
        rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
        where = {"step": trainer.global_step, "epoch": trainer.current_epoch, "learning_rates": sorted(set(rates))}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RECORD).write_text(json.dumps({**where, "batches": concerned}, indent=2) + "\n", encoding="utf-8")
        raise InputError(
            f"the loss is {concerned[0]['loss']} in step {trainer.global_step} at learning rate {max(rates):.3g}; the "
            f"ids of its images are in '{folder / RECORD}', {_last_good(trainer)}; lower the learning rate, or look at "
            "these images."
        )


class _Pending(NamedTuple):
    """A question that a device has not answered yet: its answer is there once `arrived` has been reached."""

    loss: Tensor
    answer: Tensor
    arrived: torch.cuda.Event | None


def _last_good(trainer: pl.Trainer) -> str:
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, LastCheckpoint) and Path(callback.path).is_file():
            return f"the last state before is in '{callback.path}'"
    return "no state was saved before"
