"""Train the mask-only probe for a data module."""

from maskrobust.augment import SilhouetteBank
from maskrobust.errors import InputError
from maskrobust.lm_modules.reliance.probe import FOLDS, OutlineProbe, ProbeOutcomes, cross_validate_probe, train_probe
from maskrobust.train.data.base import AnnotatedDataModule
from maskrobust.train.types import Split


def train_outline_probe(data: AnnotatedDataModule, seed: int) -> OutlineProbe:
    """A network that sees object masks alone: trained on those of the training split, stopped on the validation's.

    Args:
        data: set up for training and validation.
        seed: seed for the probe.

    Raises:
        InputError: a split has no object, or training objects have no labels.
    """
    training = SilhouetteBank.from_batches(data.annotated_batches("train"))
    if int(training.labels.min()) < 0:
        raise InputError(
            f"the mask-only probe learns the classes of training objects, but those of {type(data).__name__} have no "
            "labels; evaluate data without a training split, or with one that is labelled."
        )
    held_out = SilhouetteBank.from_batches(data.annotated_batches("val"))
    return train_probe(training, held_out, data.num_classes, seed)


def probe_source(data: AnnotatedDataModule, split: Split) -> str:
    """Where the probe of an evaluation learns from, in words that follow "the mask-only probe, "."""
    if _has_training_objects(data, split):
        return "trained on the training split"
    return f"cross-validated within the split, in {FOLDS} folds of objects"


def read_outlines(data: AnnotatedDataModule, split: Split, bank: SilhouetteBank, seed: int) -> ProbeOutcomes:
    """What a mask-only probe that has not seen the objects of a split takes them for; see `probe_source`.

    Args:
        data: whose classes are read.
        split: the split that the bank was collected from.
        bank: the bank, with every object of the split.
        seed: seed of the probe and of its folds.

    Raises:
        InputError: there are too few objects to learn from.
    """
    if not _has_training_objects(data, split):
        return cross_validate_probe(bank, data.object_of(bank.ids), data.num_classes, seed)
    data.setup("fit")
    probe = train_outline_probe(data, seed)
    return ProbeOutcomes(bank.ids.numpy(), probe(bank.object_masks).numpy(), bank.labels.numpy())


def _has_training_objects(data: AnnotatedDataModule, split: Split) -> bool:
    return split != "train" and {"train", "val"} <= set(data.splits)
