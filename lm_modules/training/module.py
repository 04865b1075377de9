"""The base of all training modules: normalisation, optimiser, schedule, and means that count each sample once."""

import math
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_info
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MetricCollection

from maskrobust.augment import Batch, RandomMasking, fold_in, sample_keys
from maskrobust.errors import InputError
from maskrobust.lm_modules.masking.axes import channels_last
from maskrobust.lm_modules.methods import normalise
from maskrobust.lm_modules.networks.weights import check_values
from maskrobust.lm_modules.training.optimisation import (
    ScheduleName,
    axes_of_parameters,
    build_optimiser,
    build_schedule,
    rate_factor,
)
from maskrobust.lm_modules.training.plain_batches import as_batch
from maskrobust.lm_modules.training.processes import SampleMean, keep_layers_in_sync
from maskrobust.lm_modules.training.training_masks import (
    DrawsInLoader,
    PresentedBatch,
    PresentedImages,
    TrainingMasking,
    build_masking,
    computes_on_cpu,
    present_masked,
)

_BITS_OF_PLACES = 40


class TrainingModule(pl.LightningModule):
    """A training of images in pixel space, which can be resumed with another length.

    Args:
        mean: channel means in [0, 1], for normalisation.
        std: channel standard deviations.
        metrics: what is logged of each sample, by name.

    Attributes:
        masking: how holes are presented.
        training_masks: draws them; None before `build_masks`.
    """

    masking: TrainingMasking
    labels_pixels: bool = False
    """Whether labels are a class for each pixel, and not for each image."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], metrics: Mapping[str, SampleMean]) -> None:
        super().__init__()
        self.mean, self.std = tuple(mean), tuple(std)
        self._axes: dict[str, int] = {}
        self._backbone: Collection[str] = ()
        """Names of the parameters that train at `backbone_factor` of the learning rate."""
        self._places: dict[tuple[bool, int], int] = {}
        self._numbers_samples = False
        self._planned: tuple[ScheduleName, float, float] | None = None  # the schedule, its warm-up and its peak
        self.training_masks: RandomMasking | None = None
        self._draws: DrawsInLoader | None = None
        self._shown: PresentedImages | None = None  # as the loader has drawn the batch that comes next
        self.metrics = MetricCollection(dict(metrics), compute_groups=False)

    def setup(self, stage: str) -> None:
        """Note the parameters before a strategy wraps them, and have batch norm synchronised by `KeepingSyncBatchNorm`.

        The masks of a fit are built before any callback begins: Lightning's tuners train when their fit starts.

        Raises:
            InputError: the trainer is on an Apple GPU, which lacks float64; or see `build_masks`.
        """
        if self.trainer.strategy.root_device.type == "mps":
            raise InputError(
                "the trainer's accelerator must have float64, in which holes are drawn and Apple's GPUs lack, got mps; "
                "give it accelerator cpu."
            )
        keep_layers_in_sync(self.trainer.strategy)
        # data modules, the shipped ones among them, leave that hook alone
        warnings.filterwarnings("ignore", "You have overridden `on_before_batch_transfer` in `LightningModule`")
        self._axes = axes_of_parameters(self)
        if stage == "fit":
            self.build_masks(getattr(self.trainer, "datamodule", None))

    def on_train_epoch_start(self) -> None:
        """Count the samples of each training loader anew, and leave to it what a CPU draws."""
        self._places = {key: value for key, value in self._places.items() if not key[0]}
        self._leave_draws_to_loader()

    def on_validation_epoch_start(self) -> None:
        """Count the samples of each other loader anew."""
        self._places = {key: value for key, value in self._places.items() if key[0]}

    def on_test_epoch_start(self) -> None:
        """Count the samples of each other loader anew."""
        self.on_validation_epoch_start()

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """A batch of any data module as `Batch`; a sample without an id is known by its place in its loader's order.

        Raises:
            InputError: it is no batch; see `as_batch`.
        """
        if isinstance(batch, PresentedBatch):
            batch, self._shown = batch
        if isinstance(batch, Batch):
            return batch
        rank, ranks, key = self.trainer.global_rank, self.trainer.world_size, (self.trainer.training, dataloader_idx)
        first = self._places.get(key, 0)
        start = (dataloader_idx << _BITS_OF_PLACES) + first * ranks + rank
        made = as_batch(batch, range(start, start + (1 << _BITS_OF_PLACES), ranks), per_pixel=self.labels_pixels)
        self._places[key] = first + len(made.ids)
        if not self._numbers_samples:
            rank_zero_info(
                "batches are plain tensors: a sample without an id is known by its place in the loader's order"
            )
            self._numbers_samples = True
        return made

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check the weights.

        Raises:
            InputError: weights in it are refused by `maskrobust.lm_modules.networks.weights.check_values`.
        """
        source = "the checkpoint" if self._trainer is None else str(self._trainer.ckpt_path)
        check_values(checkpoint.get("state_dict", {}), self.state_dict(), source)

    def on_train_start(self) -> None:
        """Have the first step take the rate of this training's peak and length, where these are others than they were.

        A resumed training may have another length, and no start of the epoch that it goes on with. Lightning's tuners
        change `learning_rate` and the batch size when the schedule is there already.
        """
        self._leave_draws_to_loader()
        for schedule in (each.scheduler for each in self.trainer.lr_scheduler_configs):
            if isinstance(schedule, LambdaLR):
                if self._planned is not None:
                    name, warmup_fraction, rate = self._planned
                    schedule.lr_lambdas = [rate_factor(name, self._steps(), warmup_fraction)] * len(schedule.base_lrs)
                    if (found := self.hparams["learning_rate"]) != rate:
                        schedule.base_lrs = [base * found / rate for base in schedule.base_lrs]
                rates = zip(schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True)
                for group, base, factor in rates:
                    group["lr"] = base * factor(schedule.last_epoch)

    def build_masks(self, source: object) -> None:
        """Build the mask policy of the training, if it has one; a fit does so when it starts.

        Args:
            source: a `SilhouetteSource` where a mask family draws silhouettes, such as the data module.

        Raises:
            InputError: silhouettes are asked for and the source has none to give, or masks or objective depend on
                objects and no training image has an object mask.
        """
        if self.masking == "none":
            return
        arguments = {"fill": "mean", "mask_probability": 1.0, **self.hparams}
        on_cpu = computes_on_cpu(arguments, self.masking)
        device = self.device if self._trainer is None else self._trainer.strategy.root_device  # where a setup leads
        self.training_masks = build_masking(arguments, source, torch.device("cpu") if on_cpu else device)
        if on_cpu:
            epoch = torch.zeros((), dtype=torch.int64).share_memory_()
            self._draws = DrawsInLoader(self.training_masks, self.masking, int(self.hparams["seed"]), epoch)

    def _leave_draws_to_loader(self) -> None:
        """Let a loader that has not begun to read draw what a CPU computes, unless images are mixed before."""
        loader: Any = self.trainer.train_dataloader
        if self._draws is not None:
            self._draws.epoch.fill_(self.current_epoch)
            if hasattr(loader, "draw_by") and self.hparams.get("mix", "none") == "none":
                loader.draw_by(self._draws)

    def _presented(self, batch: Batch) -> PresentedImages:
        """A training batch with its holes: those that its loader has drawn, or else those of this step."""
        shown, self._shown = self._shown, None
        if shown is None:
            if self.training_masks is None:
                raise RuntimeError(
                    "training with masks needs the mask policy, which is built when a fit starts, got a training step "
                    "before; train with pytorch_lightning.Trainer.fit, or call build_masks first."
                )
            there = batch.to(self._drawing_device(batch))
            keys = fold_in(sample_keys(int(self.hparams["seed"]), there.ids), self.global_step)
            shown = present_masked(self.training_masks, self.masking, keys, there)
        return shown.to(batch.images.device)

    def _drawing_device(self, batch: Batch) -> torch.device:
        return torch.device("cpu") if self._draws else batch.images.device

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Optimiser and per-step schedule of the hyperparameters; AdamW along a cosine where these name none.

        Raises:
            InputError: the training has no end, and its schedule or its warm-up needs one.
        """
        options = self.hparams
        optimiser, schedule = options.get("optimiser", "adamw"), options.get("schedule", "cosine")
        warmup_fraction, rate = options["warmup_fraction"], options["learning_rate"]
        momentum, backbone_factor = options.get("momentum", 0.0), options.get("backbone_factor", 1.0)
        if not math.isfinite(self.trainer.estimated_stepping_batches) and (
            schedule != "constant" or warmup_fraction > 0
        ):
            raise InputError(
                "a schedule and a warm-up need to know how long the training is, got one without an end; set the "
                "trainer's max_epochs or max_steps, or schedule constant and warmup_fraction 0."
            )
        slower = f", {rate * backbone_factor:g} ahead of the head" if backbone_factor != 1 else ""
        rank_zero_info(
            f"optimiser: {optimiser}, learning rate {rate:g}{slower}, {schedule} after a warm-up of "
            f"{100 * warmup_fraction:g} % of the steps"
        )
        decay, backbone = options["weight_decay"], self._backbone
        built = build_optimiser(self, self._axes, optimiser, rate, decay, momentum, backbone, backbone_factor)
        self._planned = schedule, warmup_fraction, rate
        scheduler = build_schedule(built, schedule, self._steps(), warmup_fraction)
        return {
            "optimizer": built,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step", "name": "train/learning_rate"},
        }

    def _steps(self) -> int:
        """Optimiser steps of the whole training; 1 for one without an end, whose rate is constant."""
        steps = self.trainer.estimated_stepping_batches
        return int(steps) if math.isfinite(steps) else 1

    def _log_mean(self, name: str, batch: Batch, values: Tensor, *, prog_bar: bool = False) -> None:
        """Log the metric of that name over all samples of an epoch; `values`, (B, ...), are those of a batch."""
        mean = cast(SampleMean, self.metrics[name])
        mean.update(batch.ids, values)
        self.log(name, mean, prog_bar=prog_bar, batch_size=len(batch.ids))

    def _normalise(self, images: Tensor) -> Tensor:
        if self.hparams["channels_last"]:
            images = channels_last(images)
        return normalise(images, self.mean, self.std)
