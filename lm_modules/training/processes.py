"""Training on several processes: values of all ranks, means that count each sample once, and batch norm."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from pytorch_lightning.plugins import TorchSyncBatchNorm
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from maskrobust.augment.families.bank import unique_first
from maskrobust.errors import InputError
from maskrobust.lm_modules.masking.layer_masking import mode

Found = TypeVar("Found")

PROGRESS = "MASKROBUST_PROGRESS"
"""Environment variable that names a file; `scripts/launch_slurm` sets it."""


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
            values: (B,) float or bool.
        """
        self.ids.append(ids)
        self.values.append(values.detach().float())

    def compute(self) -> Tensor:
        """The mean, () float32."""
        _, first = unique_first(dim_zero_cat(self.ids))
        return dim_zero_cat(self.values)[first].mean()


class KeepingSyncBatchNorm(TorchSyncBatchNorm):
    """Converts each batch norm by the converter of the library that it comes from, and gives it back afterwards.

    torch's own converter turns timm's `BatchNormAct2d` into a plain `SyncBatchNorm`, without its activation.
    """

    def __init__(self) -> None:
        self._originals: dict[str, nn.Module] = {}

    def apply(self, model: nn.Module) -> nn.Module:
        """Replace each batch norm of a model by one whose statistics are those of all processes.

        Raises:
            InputError: a batch norm's output in eval mode would change.
        """
        converted: dict[nn.Module, nn.Module] = {}
        for path, module in list(model.named_modules(remove_duplicate=False)):
            if isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm):
                if module not in converted:
                    converted[module] = _convert(module, path)
                self._originals[path] = module
                _replace(model, path, converted[module])
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Put the original modules back, with the parameters and statistics of those that stood in for them."""
        for path, original in self._originals.items():
            converted = model.get_submodule(path)
            original._parameters, original._buffers = converted._parameters, converted._buffers
            original.train(converted.training)
            _replace(model, path, original)
        self._originals.clear()
        return model


def keep_layers_in_sync(strategy: Any) -> None:
    """Make a strategy that synchronises batch norm (`Trainer(sync_batchnorm=True)`) do it by `KeepingSyncBatchNorm`.

    All that we use of Lightning's private names is `_layer_sync`, tried with pytorch-lightning 2.6.6: its public way, a
    plugin, is for whoever makes the Trainer.
    """
    if isinstance(getattr(strategy, "_layer_sync", None), TorchSyncBatchNorm):
        strategy._layer_sync = KeepingSyncBatchNorm()


def _convert(module: _BatchNorm, path: str) -> nn.Module:
    convert: Callable[[nn.Module], nn.Module] = nn.SyncBatchNorm.convert_sync_batchnorm
    if any(base.__module__.startswith("timm.") for base in type(module).__mro__):
        from timm.layers import norm_act

        convert = norm_act.convert_sync_batchnorm
    converted = convert(module)
    if not _agree(module, converted):
        raise InputError(
            f"sync_batchnorm needs batch norms that do nothing but normalise, got {type(module).__name__} at '{path}', "
            f"whose output changes when it becomes {type(converted).__name__}; set trainer.sync_batchnorm to false."
        )
    return converted


@torch.no_grad()
def _agree(module: _BatchNorm, converted: nn.Module) -> bool:
    """Whether two modules give the same output in eval mode, for numbers of both signs."""
    tensor = next((each for each in (*module.parameters(), *module.buffers()) if each.is_floating_point()), None)
    axes = {nn.BatchNorm1d: 0, nn.BatchNorm3d: 3}
    extra = next((axes[kind] for kind in type(module).__mro__ if kind in axes), 2)
    count = 8 * module.num_features
    numbers = torch.linspace(-3.0, 3.0, count) if tensor is None else torch.linspace(-3.0, 3.0, count).to(tensor)
    features = numbers.reshape(8, module.num_features, *[1] * extra)
    with mode(module, training=False), mode(converted, training=False):
        return torch.allclose(module(features.clone()), converted(features.clone()), rtol=1e-4, atol=1e-5)


def _replace(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)
