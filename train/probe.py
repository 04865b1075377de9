"""The mask-only probe of a data module: what a network that sees nothing but object masks predicts."""

from collections.abc import Iterable

import torch

from maskrobust.augment import Batch, SilhouetteBank
from maskrobust.lm_modules.reliance import ProbeOutcomes, probe_outcomes, train_probe
from maskrobust.train.data import AnnotatedDataModule


def outline_outcomes(data: AnnotatedDataModule, batches: Iterable[Batch], seed: int) -> ProbeOutcomes:
    """The predictions of a probe that is trained on the training split's masks, and stopped on the validation split's.

    Args:
        data: set up for training and validation.
        batches: on the CPU.
        seed: of the probe.

    Raises:
        InputError: a split has no object.
    """
    training = SilhouetteBank.from_batches(data.training_batches())
    validation = SilhouetteBank.from_batches(data.val_dataloader())
    probe = train_probe(
        training.object_masks,
        training.labels,
        validation.object_masks,
        validation.labels,
        data.num_classes,
        seed,
    )
    with torch.inference_mode():
        return probe_outcomes(probe, batches)
