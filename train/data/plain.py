"""A `LightningDataModule` that knows nothing of this package: what a training asks of it, and its splits as `Batch`."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import length_hint
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_info
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch.utils.data import RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from maskrobust.augment import Batch
from maskrobust.augment.policy import IMAGENET_MEAN
from maskrobust.errors import InputError
from maskrobust.lm_modules.networks.preprocessing import IMAGENET_STD
from maskrobust.lm_modules.training.plain_batches import as_batch
from maskrobust.train.data.base import ALL_SPLITS, AnnotatedDataModule, Colour
from maskrobust.train.data_options import Split


def described(data: pl.LightningDataModule) -> Any:
    """The data module itself, with the attributes of `AnnotatedDataModule` that a training reads.

    What it does not say is set: class_names from num_classes or the other way round, the splits that have a loader, and
    as mean and std those of the weights that are trained further, or ImageNet's.

    Args:
        data: any; an `AnnotatedDataModule` is returned as it is.

    Raises:
        InputError: it says neither num_classes nor class_names.
    """
    if isinstance(data, AnnotatedDataModule) or hasattr(data, "take_colours"):
        return data
    known: Any = data
    names, number = getattr(known, "class_names", None), getattr(known, "num_classes", None)
    if names is None and number is None:
        raise InputError(
            f"{type(data).__name__} must say how many outputs the network has, but has neither num_classes nor "
            "class_names; set one of these in its __init__."
        )
    known.class_names = tuple(names or map(str, range(int(number or 0))))
    known.num_classes = len(known.class_names)
    known.splits = tuple(split for split in ALL_SPLITS if is_overridden(f"{split}_dataloader", data))
    is_given = hasattr(known, "mean") and hasattr(known, "std")
    if not is_given:
        known.mean, known.std = IMAGENET_MEAN, IMAGENET_STD

    def take_colours(mean: Colour, std: Colour, source: str) -> None:
        if not is_given:
            rank_zero_info(f"mean colour and standard deviation are those of {source}")
            known.mean, known.std = mean, std

    known.take_colours = take_colours
    return data


def annotated(data: pl.LightningDataModule) -> AnnotatedDataModule:
    """Data whose validation and test images can be measured and shown, from any data module."""
    return data if isinstance(data, AnnotatedDataModule) else _Measured(described(data))


class _Measured(AnnotatedDataModule):
    """The validation and test images of any data module; those of a training change from pass to pass."""

    def __init__(self, data: Any) -> None:
        super().__init__()
        self._data = data
        for name in ("class_names", "num_classes", "mean", "std"):
            setattr(self, name, getattr(data, name))
        self.batch_size = getattr(data, "batch_size", 1)

    @property
    def splits(self) -> tuple[Split, ...]:
        return tuple(split for split in self._data.splits if split != "train")

    @property
    def bands(self) -> int:
        return len(self.mean)

    def prepare_data(self) -> None:
        self._data.prepare_data()

    def setup(self, stage: str | None = None) -> None:
        self._data.setup(stage)

    def setup_split(self, split: Split) -> None:
        """Set up as a training or a test does: many data modules know no other stage."""
        self.setup("test" if split == "test" else "fit")
        self.batch_size = getattr(self._loader_of(split), "batch_size", None) or 1

    def whole_split(self, split: Split) -> Iterable[Batch]:
        return _Batches(self._loader_of(split))

    def _loader_of(self, split: Split) -> Iterable[Any]:
        name = type(self._data).__name__
        if split not in self.splits:
            raise InputError(
                f"split must be val or test, and {name} must have a loader for it, got {split} and loaders for "
                f"{', '.join(self.splits) or 'none of these'}; "
                f"{f'give --split {self.splits[0]}' if self.splits else 'add one'}."
            )
        loader: Iterable[Any] = getattr(self._data, f"{split}_dataloader")()
        if isinstance(getattr(loader, "sampler", None), RandomSampler | SubsetRandomSampler | WeightedRandomSampler):
            raise InputError(
                f"{split}_dataloader of {name} must yield the same batches each time, but shuffles; leave shuffle out."
            )
        return loader


@dataclass(frozen=True)
class _Batches:
    """The batches of a loader, whose samples are known by their places in it unless they have ids."""

    loader: Iterable[Any]

    def __iter__(self) -> Iterator[Batch]:
        place = 0
        for given in self.loader:
            yield (batch := as_batch(given, range(place, sys.maxsize)))
            place += len(batch.ids)

    def __length_hint__(self) -> int:
        return length_hint(self.loader)
