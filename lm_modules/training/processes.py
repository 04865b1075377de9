"""Training on several processes: values of all ranks, means that count each sample once, and batch norm."""

import atexit
import os
from pathlib import Path
from typing import Any, TypeVar

import torch
from pytorch_lightning.plugins import TorchSyncBatchNorm
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchmetrics import Metric
from torchmetrics.functional.classification import multiclass_confusion_matrix
from torchmetrics.utilities import dim_zero_cat

from maskrobust.augment.families.bank import unique_first
from maskrobust.errors import InputError, library_needed

Found = TypeVar("Found")

PROGRESS = "MASKROBUST_PROGRESS"
"""Environment variable that names a file; `maskrobust submit` sets it."""


def of_all_ranks(found: Found) -> list[Found]:
    """What every process has found, in order of ranks. A collective operation: every process must ask.

    Args:
        found: any value that can be pickled.
    """
    if not distributed.is_initialized():
        return [found]
    gathered: list[Found | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(gathered, found)
    return [each for each in gathered if each is not None]


def leave_others_at_exit() -> None:
    """Leave the process group when this process exits, where it is in one.

    Threads of gloo that are left running abort a process at its end, after its work is done
    (pytorch/pytorch#190489). Every process must ask: one that has failed would wait for others that never answer.
    """
    if distributed.is_initialized():
        atexit.register(distributed.destroy_process_group)


def note_progress() -> None:
    """Make the file that the environment variable `MASKROBUST_PROGRESS` names; without that variable, do nothing.

    A job that was stopped is put back into the queue only where there is that file: one that has kept nothing would
    be put back for ever.
    """
    if PROGRESS in os.environ:
        Path(os.environ[PROGRESS]).touch()


class SampleMean(Metric):
    """mean_i v_i over samples i, each counted once however often it comes.

    Distributed samplers repeat a few samples so that every process has equally many; their ids tell which. The first
    value of an id counts, and values are summed in order of ids.

    Args:
        options: options of `torchmetrics.Metric`.
    """

    full_state_update = False
    ids: list[Tensor]
    values: list[Tensor]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_state("ids", default=[], dist_reduce_fx="cat")
        self.add_state("values", default=[], dist_reduce_fx="cat")

    def update(self, ids: Tensor, values: Tensor) -> None:
        """Take in one batch.

        Args:
            ids: (B,) int64 sample ids.
            values: (B, ...) float or bool.
        """
        self.ids.append(ids)
        self.values.append(values.detach().float())

    def each_once(self) -> Tensor:
        """The values of all samples, (N, ...) float32, in order of ids."""
        _, first = unique_first(dim_zero_cat(self.ids))
        return dim_zero_cat(self.values)[first]

    def compute(self) -> Tensor:
        """The mean, () float32."""
        return self.each_once().mean()


class BalancedAccuracy(SampleMean):
    """The mean of the accuracies on the images of each class that has any, each sample counted once.

    `update` takes (B, 2) labels and answers as values.

    Args:
        num_classes: K, number of classes.

    Attributes:
        confusion: (K, K) int64, how many images of a class (row) had an answer (column), as of the last `compute`.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.confusion = torch.empty(0, 0, dtype=torch.int64)

    def compute(self) -> Tensor:
        """The mean, () float32."""
        labels, answers = self.each_once().long().unbind(dim=1)
        self.confusion = multiclass_confusion_matrix(answers, labels, self.num_classes)
        return recalls(self.confusion).nanmean()


class PixelMean(SampleMean):
    """The mean over all pixels that count, of their sum and number (B, 2) as values of each sample."""

    def compute(self) -> Tensor:
        """The mean, () float32; NaN where no pixel counts."""
        total, number = self.each_once().double().sum(dim=0)
        mean: Tensor = total / number
        return mean.float()


class MeanIoU(SampleMean):
    """The mean IoU over classes that are among labels or predictions, of all pixels of a split together.

    `update` takes `counts_of_pixels` as values. Each sample counts once.
    """

    def compute(self) -> Tensor:
        """The mean, () float32; NaN where no pixel counts."""
        return mean_iou(self.each_once().double().sum(dim=0))


def counts_of_pixels(predicted: Tensor, targets: Tensor, num_classes: int) -> Tensor:
    """Pixels of each class that are predicted rightly, are labelled, and are predicted, (B, 3, K) int64.

    Args:
        predicted: (B, H, W) int64 in [0, K).
        targets: (B, H, W) int64; pixels below 0 count nowhere.
        num_classes: K.
    """
    known = targets >= 0
    number = torch.arange(len(targets), device=targets.device)[:, None, None] * num_classes

    def counted(classes: Tensor, where: Tensor) -> Tensor:
        return torch.bincount((classes + number)[where], minlength=len(targets) * num_classes).reshape(-1, num_classes)

    right = counted(targets, known & (predicted == targets))
    return torch.stack([right, counted(targets, known), counted(predicted, known)], dim=1)


def mean_iou(counts: Tensor) -> Tensor:
    """The mean IoU over classes that occur, () float32, of counts (3, K) as `counts_of_pixels` has them."""
    right, labelled, predicted = counts
    ratios: Tensor = right / (labelled + predicted - right)
    return ratios.nanmean().float()


def recalls(confusion: Tensor) -> Tensor:
    """The accuracy on the images of each class, (K,) float32, of counts (K, K); NaN for a class without any."""
    return confusion.diagonal() / confusion.sum(dim=1)


class KeepingSyncBatchNorm(TorchSyncBatchNorm):
    """Converts batch norms by timm's converter, which knows its own `BatchNormAct2d` and torch's; they stay converted.

    torch's own converter turns timm's `BatchNormAct2d` into a plain `SyncBatchNorm`, without its activation.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Replace each batch norm of a model by one whose statistics are those of all processes.

        Raises:
            InputError: a batch norm is of another class, or has two names, of which timm converts one.
        """
        with library_needed():
            from timm.layers.norm_act import BatchNormAct2d, SyncBatchNormAct, convert_sync_batchnorm

        known = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, BatchNormAct2d, SyncBatchNormAct)
        norms = {path: each for path, each in model.named_modules() if isinstance(each, _BatchNorm)}
        foreign = [path for path, each in norms.items() if type(each) not in known]
        names = [path for path, each in model.named_modules(remove_duplicate=False) if isinstance(each, _BatchNorm)]
        if wrong := foreign or sorted(set(names) - norms.keys()):
            raise InputError(
                "sync_batchnorm needs batch norms of torch's classes or timm's BatchNormAct2d, each of one name, got "
                f"'{wrong[0]}' ({type(model.get_submodule(wrong[0])).__name__}); set trainer.sync_batchnorm to false."
            )
        converted: nn.Module = convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return converted

    def revert(self, model: nn.Module) -> nn.Module:
        """The model as it is: in eval mode, and in one process, its norms compute what those before did."""
        return model


def keep_layers_in_sync(strategy: Any) -> None:
    """Make a strategy that synchronises batch norm (`Trainer(sync_batchnorm=True)`) do it by `KeepingSyncBatchNorm`.

    All that we use of Lightning's private names is `_layer_sync`, tried with pytorch-lightning 2.6.6: its public way, a
    plugin, is for whoever makes the Trainer.
    """
    if isinstance(getattr(strategy, "_layer_sync", None), TorchSyncBatchNorm):
        strategy._layer_sync = KeepingSyncBatchNorm()
