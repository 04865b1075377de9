"""The masks of training images: from names and numbers in a configuration to the policy of a training step."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal, Protocol, TypeVar, runtime_checkable

import torch

from maskrobust.augment import (
    BANK_FAMILIES,
    FILLS,
    Batch,
    FamilyName,
    FillName,
    RandomMasking,
    SilhouetteBank,
    TrainingFillName,
    build_family,
    mixture,
)
from maskrobust.errors import InputError

TrainingMasking = Literal["none", "fill", "layer_masking", "mixture"]

Name = TypeVar("Name", bound=str)


@runtime_checkable
class SilhouetteSource(Protocol):
    """A data module whose training objects can lend their silhouettes."""

    def training_batches(self) -> Iterable[Batch]:
        """Batches of the training split in a fixed order, without augmentation."""


@dataclass(frozen=True)
class TrainingMasks:
    """What a training draws its masks from.

    Attributes:
        families: mask families by name, with their weights.
        fills: fills by name, with their weights.
        hidden_fraction: (low, high) share of the image that is hidden, by the families that can choose it.
        patch_size: side of a patch in pixels.
        probability: chance that an image is masked.
        ramp: share in [0, 1] of the training over which the upper end of `hidden_fraction` grows; see `ramped`.
        mean: colour in [0, 1] of the fill "mean".
        bank: for the families that draw silhouettes; see `build_silhouette_bank`.
    """

    families: Mapping[FamilyName, float]
    fills: Mapping[TrainingFillName, float]
    hidden_fraction: tuple[float, float]
    patch_size: int
    probability: float
    ramp: float
    mean: Sequence[float]
    bank: SilhouetteBank | None = None

    def policy(self, progress: float) -> RandomMasking:
        """The mask policy of a training step.

        Args:
            progress: share in [0, 1] of all training steps that lie before this one.

        Raises:
            InputError: a family that takes part needs a bank and there is none.
        """
        hidden_fraction = ramped(self.hidden_fraction, progress, self.ramp)
        families = [
            (build_family(name, hidden_fraction=hidden_fraction, patch_size=self.patch_size, bank=self.bank), weight)
            for name, weight in self.families.items()
            if weight > 0
        ]
        family = families[0][0] if len(families) == 1 else mixture(families)
        return RandomMasking(family, self.fills, self.probability, self.mean)


def ramped(hidden_fraction: tuple[float, float], progress: float, ramp: float) -> tuple[float, float]:
    """The range of hidden fractions at a time of the training: (low, low + (high - low) min(1, progress / ramp)).

    Args:
        hidden_fraction: (low, high) after the ramp.
        progress: share in [0, 1] of all training steps that have been taken.
        ramp: share in [0, 1] of all training steps; 0 for the whole range at any time.
    """
    low, high = hidden_fraction
    return (low, high) if progress >= ramp else (low, low + (high - low) * (progress / ramp))


def as_weights(choice: Name | Mapping[Name, float]) -> dict[Name, float]:
    """Names with their weights; a single name has all of it."""
    return dict(choice) if isinstance(choice, Mapping) else {choice: 1.0}


def check_weights(option: str, choice: str | Mapping[str, float], names: Sequence[str]) -> None:
    """Refuse a choice among `names` that names another, or from which nothing can be drawn.

    Args:
        option: what the choice is called in a configuration.
        choice: a name, or names with their weights.
        names: what can be chosen.

    Raises:
        InputError: a name is unknown, a weight is negative or not finite, or none is above 0.
    """
    weights: dict[str, float] = as_weights(choice)
    for name, weight in weights.items():
        if name not in names:
            raise InputError(f"{option} must be one of {', '.join(names)}, got '{name}'; choose one of these.")
        if not (isfinite(weight) and weight >= 0):
            raise InputError(f"the weight of {option} '{name}' must be at least 0, got {weight}; give such a number.")
    if not any(weights.values()):
        raise InputError(f"{option} must have a weight above 0, got {weights}; raise one of the weights.")


def evaluation_fill(fills: Mapping[TrainingFillName, float]) -> FillName:
    """The fill that a network trained with `fills` is validated with: the heaviest that does not depend on the batch.

    Of equal weights the first in `FILLS` counts; "mean" stands in for "other_image" alone.
    """
    return max((fill for fill in FILLS if fills.get(fill, 0) > 0), key=lambda fill: fills[fill], default="mean")


def build_silhouette_bank(
    families: Mapping[FamilyName, float], source: object, device: torch.device
) -> SilhouetteBank | None:
    """The silhouettes of the training objects; None where no family with a weight above 0 draws from them.

    Args:
        families: mask families by name, with their weights.
        source: a `SilhouetteSource`; anything where no family needs it.
        device: of the keys that the families will be called with.

    Raises:
        InputError: silhouettes are asked for and the source has none to give, or a class lacks another object to draw.
    """
    needing = [name for name, weight in families.items() if weight > 0 and name in BANK_FAMILIES]
    if not needing:
        return None
    if not isinstance(source, SilhouetteSource):
        raise InputError(
            f"mask_family '{needing[0]}' needs a data module with training_batches() to take silhouettes from, got "
            f"{type(source).__name__}; train with one of maskrobust.train.data, or choose another mask family."
        )
    bank = SilhouetteBank.from_batches(source.training_batches())
    _check_classes(bank, needing)
    return bank.to(device)


def _check_classes(bank: SilhouetteBank, families: Collection[str]) -> None:
    """Refuse a bank that leaves an object without another one to draw, before training comes across it."""
    classes, counts = bank.labels.unique(return_counts=True)
    if "own_class_silhouettes" in families and counts.min() == 1:
        alone = int(classes[counts.argmin()])
        raise InputError(
            f"mask_family 'own_class_silhouettes' needs two training objects of each class, got one of class {alone}; "
            "annotate more, or choose another mask family."
        )
    if "other_class_silhouettes" in families and len(classes) == 1:
        raise InputError(
            "mask_family 'other_class_silhouettes' needs training objects of two classes, got those of class "
            f"{int(classes[0])} alone; choose another mask family."
        )
