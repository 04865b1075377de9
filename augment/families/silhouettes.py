"""Object silhouettes drawn from a bank: holes whose outline is that of a real object."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from augment.batch import Batch
from augment.random import fold_in, uniform


@dataclass(frozen=True)
class SilhouetteBank:
    """Object masks of one size with their labels, sorted by sample id.

    Attributes:
        object_masks: (N, 1, H, W) bool, True on the object; none is empty.
        labels: (N,) int64 class of each object.
        ids: (N,) int64 id of the sample that each mask was annotated on, ascending.
    """

    object_masks: Tensor
    labels: Tensor
    ids: Tensor

    def __post_init__(self) -> None:
        if len(self) == 0:
            raise ValueError(
                "a silhouette bank needs at least one non-empty object mask, got none; annotate an object."
            )

    def __len__(self) -> int:
        return self.object_masks.shape[0]

    @classmethod
    def from_batches(cls, batches: Iterable[Batch]) -> Self:
        """Collect every non-empty object mask of some batches; the result does not depend on their order.

        Args:
            batches: batches of one image size; samples without an object are passed over, repeated ids kept once.

        Raises:
            ValueError: no batch holds a non-empty object mask.
        """
        masks, labels, ids = [], [], []
        for batch in batches:
            annotated = batch.object_mask.flatten(1).any(dim=1)
            masks.append(batch.object_mask[annotated].cpu())
            labels.append(batch.labels[annotated].cpu())
            ids.append(batch.ids[annotated].cpu())
        if not masks:
            raise ValueError("a silhouette bank needs at least one batch, got none; give it a split that is not empty.")
        unique_ids, first = unique_first(torch.cat(ids))
        return cls(torch.cat(masks)[first], torch.cat(labels)[first], unique_ids)

    def to(self, device: torch.device) -> "SilhouetteBank":
        """The same bank on another device."""
        return SilhouetteBank(self.object_masks.to(device), self.labels.to(device), self.ids.to(device))


def silhouettes(keys: Tensor, height: int, width: int, *, bank: SilhouetteBank) -> Tensor:
    """Hide the silhouette of a uniformly drawn object of the bank, where that object stood in its own image.

    The draw ignores the class of the image, so outline and class are independent. The hidden fraction is the drawn
    object's own.

    Args:
        keys: (B,) int64 keys.
        height: image height in pixels; must be the bank's.
        width: image width in pixels; must be the bank's.
        bank: the objects to draw from, on the device of `keys`.

    Returns:
        `visible`, (B, 1, height, width) bool.

    Raises:
        ValueError: the bank's masks have another size.
    """
    check_mask_size(bank.object_masks, height, width)
    chosen = (uniform(fold_in(keys, 0)) * len(bank)).long().clamp(max=len(bank) - 1)
    return ~bank.object_masks[chosen]


def check_mask_size(object_masks: Tensor, height: int, width: int) -> None:
    """Refuse silhouettes that do not fit the images they are to be drawn for.

    Args:
        object_masks: (N, 1, H, W), a bank's.
        height: image height in pixels.
        width: image width in pixels.

    Raises:
        ValueError: (H, W) is not (height, width).
    """
    size = tuple(object_masks.shape[2:])
    if size != (height, width):
        raise ValueError(
            f"the silhouette bank must hold masks of the images' size {(height, width)}, got {size}; build it from "
            "images of that size."
        )


def unique_first(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Sorted unique ids and, for each, the position of its first occurrence.

    Args:
        ids: (N,) int64.

    Returns:
        (M,) ascending unique ids and (M,) int64 positions into `ids`.
    """
    order = torch.argsort(ids, stable=True)
    ordered = ids[order]
    is_first = torch.ones_like(ordered, dtype=torch.bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    return ordered[is_first], order[is_first]
