"""Batches of one split by its name, and on a device."""

from collections.abc import Iterable, Iterator

import torch

from maskrobust.augment import Batch
from maskrobust.train.data.base import AnnotatedDataModule
from maskrobust.train.types import Split

STAGE_OF_SPLIT: dict[Split, str] = {"train": "fit", "val": "validate", "test": "test"}
"""The stage that `AnnotatedDataModule.setup` knows each split by."""


def split_batches(data: AnnotatedDataModule, split: Split) -> Iterable[Batch]:
    """Every image of a split once, without augmentation; the data must be set up for it."""
    match split:
        case "train":
            return data.training_batches()
        case "val":
            loader: Iterable[Batch] = data.val_dataloader()
        case "test":
            loader = data.test_dataloader()
    return loader


def batches_on(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches, moved to a device."""
    for batch in batches:
        yield batch.to(device)
