"""The mask-only probe of a data module."""

from maskrobust.augment import SilhouetteBank
from maskrobust.lm_modules.reliance.probe import OutlineProbe, train_probe
from maskrobust.train.data import AnnotatedDataModule


def train_outline_probe(data: AnnotatedDataModule, seed: int) -> OutlineProbe:
    """A network that sees object masks alone: trained on those of the training split, stopped on the validation's.

    Args:
        data: set up for training and validation.
        seed: of the probe.

    Raises:
        InputError: a split has no object.
    """
    training = SilhouetteBank.from_batches(data.training_batches())
    validation = SilhouetteBank.from_batches(data.val_dataloader())
    return train_probe(
        training.object_masks,
        training.labels,
        validation.object_masks,
        validation.labels,
        data.num_classes,
        seed,
    )
