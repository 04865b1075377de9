"""Dropout and the like as a function of the step."""

from typing import Any

import pytorch_lightning as pl
import torch

from maskrobust.augment.random import fold_in, sample_keys


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
