"""The masks of training images: from names and numbers in a configuration to the policy of a training step."""

from collections.abc import Collection, Iterable, Sequence
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from maskrobust.augment import (
    FILLS,
    OTHER_IMAGE,
    Batch,
    Choice,
    FillName,
    RandomMasking,
    SilhouetteBank,
    build_family,
    draw_on_cpu,
    read_families,
    read_fills,
)
from maskrobust.errors import InputError

TrainingMasking = Literal["none", "fill", "layer_masking", "mixture"]


@runtime_checkable
class SilhouetteSource(Protocol):
    """A data module whose training objects can lend their silhouettes."""

    def annotated_batches(self, split: Literal["train"]) -> Iterable[Batch]:
        """Batches that hold every object mask of the training split, without augmentation."""


@runtime_checkable
class SceneSource(Protocol):
    """A data module that may know its pictures without their objects."""

    def without_object(self, split: str, ids: Tensor) -> Tensor | None:
        """Pictures (N, C, H, W) in [0, 1] of samples (N,), on the CPU, of a split; None where there are none."""


def build_masking(
    mask_family: Choice,
    fill: Choice,
    *,
    hidden_fraction: Sequence[float],
    patch_size: int,
    probability: float,
    mean: Sequence[float],
    source: object,
    device: torch.device,
) -> RandomMasking:
    """The mask policy of a training.

    Args:
        mask_family: see `maskrobust.augment.build_family`.
        fill: see `maskrobust.augment.read_fills`.
        hidden_fraction: (low, high) fraction of the image that is hidden, by the families that can choose it.
        patch_size: side of a patch in pixels.
        probability: chance that an image is masked.
        mean: colour in [0, 1] of the fill "mean".
        source: a `SilhouetteSource`; anything where no family draws silhouettes.
        device: of the keys that the policy will be called with, unless a fill works on the CPU: then it is that.

    Raises:
        InputError: an argument is out of its range, or silhouettes are asked for and the source has none to give.
    """
    low, high = hidden_fraction
    where = torch.device("cpu") if draw_on_cpu(read_fills(fill)) else device
    bank = build_silhouette_bank(mask_family, source, where)
    family = build_family(mask_family, hidden_fraction=(low, high), patch_size=patch_size, bank=bank)
    return RandomMasking(family, fill, probability, mean)


def ramp_growth(progress: float, ramp: float) -> float:
    """How far the upper end of the hidden fraction has grown, in [0, 1]: min(1, progress / ramp).

    Args:
        progress: fraction in [0, 1] of all training steps that have been taken.
        ramp: fraction in [0, 1] of all training steps over which it grows; 0 for the whole range at any time.
    """
    return 1.0 if progress >= ramp else progress / ramp


def evaluation_fill(fill: Choice) -> FillName:
    """The fill that a network trained with `fill` is validated with: the heaviest that does not depend on the batch.

    Of equal weights the first in `FILLS` counts; "mean" stands in for "other_image" alone. Options that the training
    gives to the fill do not apply.
    """
    order = list(FILLS)
    usable = [each for each in read_fills(fill) if each.weight > 0 and each.name != OTHER_IMAGE]
    usable.sort(key=lambda each: (-each.weight, order.index(each.entry.name)))
    return usable[0].name if usable else "mean"


def build_silhouette_bank(mask_family: Choice, source: object, device: torch.device) -> SilhouetteBank | None:
    """The silhouettes of the training objects; None where no family with a weight above 0 draws from them.

    Args:
        mask_family: see `maskrobust.augment.build_family`.
        source: a `SilhouetteSource`; anything where no family needs it.
        device: of the keys that the families will be called with.

    Raises:
        InputError: silhouettes are asked for and the source has none to give, or a class lacks another object to draw.
    """
    chosen = [each for each in read_families(mask_family) if each.weight > 0]
    needing = [each.entry.name for each in chosen if "bank" in each.entry.inputs]
    if not needing:
        return None
    if not isinstance(source, SilhouetteSource):
        raise InputError(
            f"mask_family '{needing[0]}' needs a data module with annotated_batches() to take silhouettes from, got "
            f"{type(source).__name__}; train with one of maskrobust.train.data, or choose another mask family."
        )
    object_of = getattr(source, "object_of", torch.clone)
    bank = SilhouetteBank.from_batches(source.annotated_batches("train"), object_of)
    _check_classes(bank, needing)
    return bank.to(device)


def _check_classes(bank: SilhouetteBank, families: Collection[str]) -> None:
    """Refuse a bank that leaves an object without another one to draw, before training comes across it."""
    objects = torch.stack([bank.labels, bank.objects]).unique(dim=1)
    classes, counts = objects[0].unique(return_counts=True)
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
