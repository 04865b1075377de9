"""Shape reliance during training: the measures of `lm_modules.reliance` on validation images, as they come by."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor
from torch.distributed import all_gather_object, get_world_size, is_initialized
from torchvision.utils import make_grid

from augment import Batch, SilhouetteBank, apply_fill, fold_in, object_holes, sample_keys
from lm_modules.classifier import MaskRobustClassifier
from lm_modules.methods import MASKING_METHODS, MaskingMethod, Predictor
from lm_modules.reliance import (
    FILL_STREAM,
    HOLE_STREAM,
    Measure,
    Outcomes,
    OutlineProbe,
    ProbeOutcomes,
    ReliancePlan,
    RelianceSuite,
    estimate,
    hidden_pixel_sensitivity,
    probe_accuracy,
    probe_outcomes,
    retention,
    silhouette_leak,
    swap_pull,
    train_probe,
    used_share,
)
from lm_modules.training_masks import SilhouetteSource

Found = TypeVar("Found")


class RelianceCallback(pl.Callback):
    """Measures how far the network reads the shape of a hole, every few epochs, and logs it.

    It asks the network about validation batches as Lightning goes through them, keeps predictions alone, and joins them
    over all processes. Logged under ``reliance/<method>/``, with the ends of 95 % intervals over images as ``_low`` and
    ``_high``: silhouette leak, swap pull, probe accuracy, used share, accuracy at each hidden fraction; and the
    hidden-pixel sensitivity. A figure that is undefined is not logged. A `WandbLogger` gets pictures of what the
    network was shown, too.

    Training goes on as it would without: holes depend on (seed, sample id) alone, and the random state is left as it
    is. For each method a measured batch costs about 8 forward passes, plus one for each hidden fraction above 0.

    Args:
        methods: masking methods to ask the network under.
        every_n_epochs: epochs between two measurements, at least 1; the last epoch of each group is measured.
        max_images: validation images to measure on, from the first on, over all processes.
        max_objects: training objects whose silhouettes are swapped in, and train the mask-only probe.
        patch_size: side in pixels of the patches that are hidden at random.
        hidden_fractions: shares in [0, 1] of patches to hide.
        replicates: bootstrap resamples behind each interval.
        pictures: validation images to show; 0 for none.
        seed: decides the holes, the probe and the resamples.

    Raises:
        ValueError: a method is unknown, or a number is below its minimum.
    """

    def __init__(
        self,
        methods: tuple[MaskingMethod, ...] = ("black", "mean", "layer_masking"),
        *,
        every_n_epochs: int = 1,
        max_images: int = 1000,
        max_objects: int = 4000,
        patch_size: int = 16,
        hidden_fractions: tuple[float, ...] = (0.5,),
        replicates: int = 500,
        pictures: int = 4,
        seed: int = 0,
    ) -> None:
        unknown = [method for method in methods if method not in MASKING_METHODS]
        if unknown:
            raise ValueError(f"methods must be some of {', '.join(MASKING_METHODS)}, got '{unknown[0]}'; name these.")
        numbers = {"every_n_epochs": every_n_epochs, "max_images": max_images, "max_objects": max_objects}
        for name, number in numbers.items():
            if number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}; give a larger number.")
        self.methods = tuple(methods)
        self.every_n_epochs, self.max_images, self.max_objects = every_n_epochs, max_images, max_objects
        self.patch_size, self.hidden_fractions = patch_size, tuple(hidden_fractions)
        self.replicates, self.pictures, self.seed = replicates, pictures, seed
        self._bank: SilhouetteBank | None = None
        self._probe: OutlineProbe | None = None
        self._suite: RelianceSuite | None = None
        self._predictors: dict[str, Predictor] = {}
        self._read: list[ProbeOutcomes] = []
        self._seen = 0

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Get ready where this epoch is to be measured.

        Raises:
            ValueError: the data module has no training objects to lend, or the module is no `MaskRobustClassifier`.
            UnsupportedNetworkError: layer masking is asked for and cannot read the network.
        """
        self._suite, self._read, self._seen = None, [], 0
        is_due = (trainer.current_epoch + 1) % self.every_n_epochs == 0 or trainer.state.fn != TrainerFn.FITTING
        if trainer.sanity_checking or not is_due:
            return
        classifier = _classifier(pl_module)
        self._predictors = {method: classifier.predictor(method) for method in self.methods}
        if self._bank is None:
            self._prepare(getattr(trainer, "datamodule", None), classifier)
        assert self._bank is not None
        self._suite = RelianceSuite(
            self._bank,
            int(classifier.hparams["num_classes"]),
            ReliancePlan(patch_size=self.patch_size, hidden_fractions=self.hidden_fractions),
            seed=self.seed,
        )

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Ask the network about this batch."""
        wanted = -(-self.max_images // trainer.world_size) - self._seen
        if self._suite is None or wanted <= 0:
            return
        batch = Batch(*(tensor[:wanted] for tensor in batch))
        self._suite.update(self._predictors, batch)
        if self._probe is not None:
            self._read.append(probe_outcomes(self._probe, [batch]))
        if self._seen == 0:
            self._show(trainer, _classifier(pl_module), batch)
        self._seen += len(batch.ids)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Join what all processes have found, and log it."""
        if self._suite is None:
            return
        parts = _of_all_ranks((self._suite.outcomes(), self._read))
        read = [outcomes for _, each in parts for outcomes in each]
        probe = ProbeOutcomes.merge(read) if read else None
        measures = _measures(self.hidden_fractions, probe)
        for method in self.methods:
            outcomes = Outcomes.merge([by_method[method] for by_method, _ in parts if method in by_method])
            for name, value in self._figures(measures, outcomes):
                pl_module.log(f"reliance/{method}/{name}", value, batch_size=1)
        self._suite, self._predictors, self._read = None, {}, []

    def _figures(self, measures: Sequence[Measure], outcomes: Outcomes) -> Iterator[tuple[str, float]]:
        for measure in measures:
            found = estimate(measure, [outcomes], replicates=self.replicates, seed=self.seed).estimate
            if found is not None:
                name = measure.name.replace(" ", "_")
                yield from ((name, found.value), (f"{name}_low", found.low), (f"{name}_high", found.high))
        sensitivity = hidden_pixel_sensitivity(outcomes)
        if not math.isnan(sensitivity):
            yield "hidden_pixel_sensitivity", sensitivity

    def _prepare(self, source: object, classifier: MaskRobustClassifier) -> None:
        """Collect silhouettes and train the probe, with gradients and a random state of its own."""
        if not isinstance(source, SilhouetteSource):
            raise ValueError(
                "the reliance callback needs a data module with training_batches() to take silhouettes from, got "
                f"{type(source).__name__}; train with one of train.data, or leave the callback out."
            )
        with isolate_rng(), torch.inference_mode(False), torch.enable_grad():
            self._bank = SilhouetteBank.from_batches(_up_to(source.training_batches(), self.max_objects))
            held_out = torch.arange(len(self._bank)) % 5 == 0
            if held_out.all():
                return
            masks, labels = (tensor.to(classifier.device) for tensor in (self._bank.object_masks, self._bank.labels))
            held_out = held_out.to(classifier.device)
            self._probe = train_probe(
                masks[~held_out],
                labels[~held_out],
                masks[held_out],
                labels[held_out],
                int(classifier.hparams["num_classes"]),
                self.seed,
            )

    def _show(self, trainer: pl.Trainer, classifier: MaskRobustClassifier, batch: Batch) -> None:
        """Give every W&B logger a panel of the first images."""
        loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
        if not loggers or self.pictures == 0 or not trainer.is_global_zero:
            return
        shown = Batch(*(tensor[: self.pictures] for tensor in batch))
        for logger in loggers:
            logger.log_image("reliance/shown", [self.panel(classifier, shown)], caption=[" | ".join(self.columns)])

    @property
    def columns(self) -> tuple[str, ...]:
        """What the columns of `panel` show."""
        return ("image", *self.methods)

    def panel(self, classifier: MaskRobustClassifier, batch: Batch) -> Tensor:
        """What the network is shown behind the silhouette hole, as one picture; hidden is grey under layer masking.

        Args:
            classifier: for the fill "mean".
            batch: a row for each of its images.

        Returns:
            (3, height, width) float in [0, 1].
        """
        keys = sample_keys(self.seed, batch.ids)
        visible = object_holes(fold_in(keys, HOLE_STREAM), batch.object_mask).silhouette_visible
        columns, fill_keys = [batch.images], fold_in(keys, FILL_STREAM)
        for method in self.methods:
            if method == "layer_masking":
                columns.append(torch.where(visible, batch.images, 0.5))
            else:
                columns.append(apply_fill(method, batch.images, visible, keys=fill_keys, mean=classifier.mean))
        cells = torch.stack(columns, dim=1).flatten(0, 1)
        grid: Tensor = make_grid(cells.float().cpu(), nrow=len(columns), pad_value=1.0)
        return grid


def _classifier(module: pl.LightningModule) -> MaskRobustClassifier:
    if not isinstance(module, MaskRobustClassifier):
        raise ValueError(
            f"the reliance callback measures a MaskRobustClassifier, got {type(module).__name__}; leave it out."
        )
    return module


def _measures(hidden_fractions: Sequence[float], probe: ProbeOutcomes | None) -> list[Measure]:
    measures = [silhouette_leak(), swap_pull(), *(retention(fraction) for fraction in hidden_fractions)]
    return measures if probe is None else [*measures, probe_accuracy(probe), used_share(probe)]


def _up_to(batches: Iterable[Batch], objects: int) -> Iterator[Batch]:
    """Batches until they hold that many objects."""
    for batch in batches:
        yield batch
        objects -= int(batch.object_mask.flatten(1).any(dim=1).sum())
        if objects <= 0:
            return


def _of_all_ranks(found: Found) -> list[Found]:
    """What every process has found, in order of ranks."""
    if not is_initialized():
        return [found]
    gathered: list[Found | None] = [None] * get_world_size()
    all_gather_object(gathered, found)
    return [each for each in gathered if each is not None]
