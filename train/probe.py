"""Train the mask-only probe for a data module."""

from pathlib import Path

import torch

from maskrobust.augment import SilhouetteBank
from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.probe import (
    FOLDS,
    OutlineProbe,
    ProbeOutcomes,
    cross_validate_probe,
    object_folds,
    train_probe,
)
from maskrobust.train.types import AnnotatedDataModule, Split


def train_outline_probe(data: AnnotatedDataModule, seed: int) -> OutlineProbe:
    """A network that sees object masks alone: trained on those of the training split, stopped on the validation's.

    Args:
        data: set up for training and validation.
        seed: of the probe.

    Raises:
        InputError: a split has no object, or training objects have no labels.
    """
    training = SilhouetteBank.from_batches(data.annotated_batches("train"))
    if int(training.labels.min()) < 0:
        raise InputError(
            f"the mask-only probe learns the classes of training objects, but those of {type(data).__name__} have no "
            "labels; evaluate without training objects, such as Cutouts with training_objects none."
        )
    held_out = SilhouetteBank.from_batches(data.annotated_batches("val"))
    return train_probe(training, held_out, data.num_classes, seed)


def probe_source(data: AnnotatedDataModule, split: Split, outlines: Path | None) -> str:
    """Where the probe of an evaluation learns from, in words that follow "the mask-only probe, "."""
    if not data.num_classes:
        return "not asked, as the images have no labels"
    if outlines is not None:
        return f"trained on the outlines of {outlines}"
    if _has_training_objects(data, split):
        return "trained on the training split"
    return f"cross-validated within the split, in {FOLDS} folds of objects"


def read_outlines(
    data: AnnotatedDataModule, split: Split, bank: SilhouetteBank, outlines: Path | None, seed: int
) -> ProbeOutcomes:
    """What a mask-only probe that has not seen the objects of a split takes them for; see `probe_source`.

    Args:
        data: whose classes are read.
        split: that the bank was collected from.
        bank: every object of the split.
        outlines: file of a `SilhouetteBank` to train on, its labels being those of the data; a fifth of its masks
            chooses the epoch. None for the training split, or without one for cross-validation within the split.
        seed: of probe and folds.

    Raises:
        MissingFileError, InputError: the file cannot be read, has labels that the data have not, or holds masks of
            objects of the split; or there are too few objects to learn from.
    """
    if outlines is not None:
        probe = _trained_on_file(outlines, bank, data, seed)
    elif _has_training_objects(data, split):
        data.setup("fit")
        probe = train_outline_probe(data, seed)
    else:
        return cross_validate_probe(bank, data.object_of(bank.ids), data.num_classes, seed)
    return ProbeOutcomes(bank.ids.numpy(), probe(bank.object_masks).numpy(), bank.labels.numpy())


def _has_training_objects(data: AnnotatedDataModule, split: Split) -> bool:
    return split != "train" and {"train", "val"} <= set(data.splits)


def _trained_on_file(path: Path, read: SilhouetteBank, data: AnnotatedDataModule, seed: int) -> OutlineProbe:
    outlines = SilhouetteBank.load(path)
    if not 0 <= int(outlines.labels.min()) <= int(outlines.labels.max()) < data.num_classes:
        raise InputError(
            f"the outlines of '{path}' must have labels in [0, {data.num_classes}), as the data have, got "
            f"{int(outlines.labels.min())} to {int(outlines.labels.max())}; collect them from data of the same classes."
        )
    objects = data.object_of(outlines.ids)
    if torch.isin(objects, data.object_of(read.ids)).any():
        raise InputError(
            f"the outlines of '{path}' must be of other objects than those that are evaluated, but some are in both; "
            "collect them from a split that shares none."
        )
    held_out = object_folds(objects, outlines.labels, seed) == 0
    return train_probe(outlines.select(~held_out), outlines.select(held_out), data.num_classes, seed)
