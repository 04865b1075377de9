"""Callbacks of every training: a seed for each step, a stop at NaN or infinite losses, pictures and logs."""

import json
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, distributed
from torch.optim import Optimizer

from maskrobust.augment import Batch
from maskrobust.augment.batch import in_colours
from maskrobust.augment.random import fold_in, sample_keys
from maskrobust.errors import InputError
from maskrobust.lm_modules.callbacks.last_checkpoint import LastCheckpoint
from maskrobust.lm_modules.callbacks.logged_pictures import draw_grid, log_picture, shows_pictures
from maskrobust.lm_modules.methods import mark_hidden
from maskrobust.lm_modules.training.classifier import MaskRobustClassifier
from maskrobust.lm_modules.training.pretraining import MaskedPretraining
from maskrobust.lm_modules.training.processes import of_all_ranks
from maskrobust.lm_modules.training.segmentation_losses import UNLABELLED
from maskrobust.lm_modules.training.segmenter import MaskRobustSegmenter


class StepSeed(pl.Callback):
    """Seeds torch's generators before each training batch with (seed, epoch, batch, process).

    What a network draws for itself (dropout, stochastic depth) is then the same whether a run was interrupted or not,
    and no state of a generator has to be saved for each process. It draws on the host, without waiting for a GPU.

    Args:
        seed: any integer of 64 bits.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed the generators."""
        keys = sample_keys(self.seed, torch.tensor([trainer.current_epoch]))
        for number in (batch_idx, trainer.global_rank):
            keys = fold_in(keys, number)
        torch.manual_seed(int(keys))


RECORD = "not_finite.json"


class FiniteLoss(pl.Callback):
    """Ends the training when the loss of any process is NaN or infinite, before the optimiser takes its step.

    It writes not_finite.json beside the logs: step, epoch, learning rates, and of each process that is concerned its
    rank, loss and the ids of its batch. Gradients are not looked at: under fp16 they overflow now and then, which the
    loss scaling deals with.

    What costs time is waiting for a GPU. The loss is looked at on the GPU after the forward pass, and the answer read
    before the optimiser step, when the backward pass is queued already: the host waits for the forward pass alone,
    while the GPU is busy. Several processes exchange two numbers at once, on the GPU too: this one, and the signal that
    `LastCheckpoint` has received.

    Raises:
        InputError: in rank 0, which names the files; the other processes exit with 0.
    """

    def __init__(self) -> None:
        self._pending: tuple[Tensor, Tensor, torch.cuda.Event | None] | None = None  # loss, answer, when it is there
        self._batch: Any = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the batch, whose ids may be asked for."""
        self._batch = batch

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Ask whether the loss is finite, without waiting for the answer."""
        loss = loss.detach()
        told = (~loss.isfinite()).any().to(torch.uint8)
        if trainer.world_size > 1:
            last = _last_checkpoint(trainer)
            told = torch.stack([told, torch.full_like(told, last.signals.own if last else 0)])
            distributed.all_reduce(told, op=distributed.ReduceOp.MAX)
        answer = told.to("cpu", non_blocking=True)
        arrived = None
        if told.is_cuda:
            arrived = torch.cuda.Event()
            arrived.record()
        self._pending = loss, answer, arrived

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
        is_bad, *received = answer.flatten().tolist()
        if received and (last := _last_checkpoint(trainer)):
            (last.signals.agreed,) = received
        if is_bad:
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


def _last_checkpoint(trainer: pl.Trainer) -> LastCheckpoint | None:
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return next((each for each in callbacks if isinstance(each, LastCheckpoint)), None)


def _last_good(trainer: pl.Trainer) -> str:
    last = _last_checkpoint(trainer)
    if last and Path(last.path).is_file():
        return f"the last state before is in '{last.path}'"
    return "no state was saved before"


class LogEachEpoch(pl.Callback):
    """Logs at least once an epoch: every min(50, optimiser steps of an epoch) steps, in place of Lightning's 50."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set `log_every_n_steps`, now that the number of batches is known."""
        steps = trainer.num_training_batches // trainer.accumulate_grad_batches
        trainer.log_every_n_steps = int(max(1, min(50, steps)))  # type: ignore[attr-defined]  # set, but not declared


class ShownImages(pl.Callback):
    """Shows, when training starts, the first images of its first batch: as they are, and as the network sees them.

    Weights & Biases and TensorBoard get the picture as ``train/shown``; without them nothing is drawn. Holes are those
    of the very step that follows; `mark_hidden` marks those of layer masking. Training goes on as it would without:
    holes depend on (seed, sample id, step) alone.

    Args:
        pictures: how many images, at least 1.
    """

    def __init__(self, pictures: int = 8) -> None:
        self.pictures = pictures
        self._is_due = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the next batch."""
        self._is_due = trainer.is_global_zero and shows_pictures(trainer.loggers)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Draw the batch's images where they are to be shown."""
        if not self._is_due:
            return
        self._is_due = False
        assert isinstance(pl_module, MaskRobustClassifier)
        presented = pl_module.present(batch)
        shown = presented.images if presented.visible is None else mark_hidden(presented.images, presented.visible)
        rows = torch.cat([batch.images[: self.pictures], shown[: self.pictures]])
        picture = draw_grid(rows, columns=len(rows) // 2, bands=_shown_bands(trainer))
        log_picture(
            trainer.loggers, "train/shown", picture, "images, and as the network sees them", trainer.global_step
        )


class _OfValidation(pl.Callback):
    """Draws the first images of each validation, in the first process, where a logger shows pictures.

    Args:
        pictures: how many images, at least 1, of the first validation batch.
    """

    def __init__(self, pictures: int = 8) -> None:
        self.pictures = pictures

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Draw the first images of the first batch."""
        if batch_idx > 0 or trainer.sanity_checking or not (trainer.is_global_zero and shows_pictures(trainer.loggers)):
            return
        self._draw(trainer, pl_module, batch.select(slice(self.pictures)))

    def _draw(self, trainer: pl.Trainer, pl_module: pl.LightningModule, some: Batch) -> None:
        raise NotImplementedError


class Reconstructions(_OfValidation):
    """Shows what a pre-training has learnt: the first images of each validation, as they are, as seen, and as drawn.

    Weights & Biases and TensorBoard get the picture as ``val/reconstructions``; without them nothing is drawn, nor of
    signals and volumes. Holes are the same each time. The first process draws alone.

    Args:
        pictures: how many images, at least 1, of the first validation batch.
    """

    def _draw(self, trainer: pl.Trainer, pl_module: pl.LightningModule, some: Batch) -> None:
        if some.images.ndim != 4:
            return
        assert isinstance(pl_module, MaskedPretraining)
        visible, drawn = pl_module.reconstruct(some)
        rows = torch.cat([some.images, mark_hidden(some.images, visible), drawn])
        caption = "images, what the encoder sees of them, and with hidden pixels drawn"
        picture = draw_grid(rows, columns=len(some.ids))
        log_picture(trainer.loggers, "val/reconstructions", picture, caption, trainer.global_step)


class Segmentations(_OfValidation):
    """Shows with each validation the first images, what is left where half of the patches are hidden, labels, answers.

    Weights & Biases and TensorBoard get the picture as ``val/segmentations``; without them nothing is drawn. Classes
    have colours, of which that of the first is black. Pixels that are hidden or have no label are white.

    Args:
        pictures: how many images, at least 1, of the first validation batch.
    """

    def _draw(self, trainer: pl.Trainer, pl_module: pl.LightningModule, some: Batch) -> None:
        assert isinstance(pl_module, MaskRobustSegmenter)
        left, logits = pl_module.half_hidden(some)
        images = in_colours(some.images.where(some.known, 0.0), _shown_bands(trainer))
        answers = logits.argmax(dim=1).where(left[:, 0], UNLABELLED)
        rows = [images, mark_hidden(images, left)]
        rows += [
            in_class_colours(each, pl_module.num_classes) for each in (pl_module.targets(some, some.known), answers)
        ]
        caption = "images, what is left of them with half of the patches hidden, labels, and answers to what is left"
        picture = draw_grid(torch.cat(rows), columns=len(some.ids))
        log_picture(trainer.loggers, "val/segmentations", picture, caption, trainer.global_step)


def _shown_bands(trainer: pl.Trainer) -> Any:
    """Which bands of the data are drawn as colours; None where they say nothing of it."""
    return getattr(getattr(trainer, "datamodule", None), "show_bands", None)


def in_class_colours(labels: Tensor, num_classes: int) -> Tensor:
    """(B, 3, H, W) float32 in [0, 1] of classes (B, H, W): a colour for each, of the first black; white below 0."""
    steps = labels.new_tensor([2**25 - 1, 2**15 - 1, 2**21 - 1])  # as torchvision's examples colour classes
    colours = (torch.arange(num_classes, device=labels.device)[:, None] * steps % 255) / 255
    return torch.cat([colours, torch.ones_like(colours[:1])])[labels].movedim(-1, 1)
