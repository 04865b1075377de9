"""`SilhouetteBank`: outlines of objects, collected from batches, for holes of their shape."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

from maskrobust.augment.batch import Batch
from maskrobust.errors import InputError

_FIELDS = ("object_masks", "labels", "ids", "objects")


def one_object_each(ids: Tensor) -> Tensor:
    """Which object each sample shows where a data module does not say: one of its own, named by the sample's id."""
    return ids


@dataclass(frozen=True)
class SilhouetteBank:
    """Object masks of one size with their labels, sorted by sample id.

    Attributes:
        object_masks: (N, 1, H, W) bool, True on the object; none is empty.
        labels: (N,) int64 class of each object.
        ids: (N,) int64 id of the sample that each mask was annotated on, ascending.
        objects: (N,) int64, equal for masks of the same object; the ids where it is not given.
    """

    object_masks: Tensor
    labels: Tensor
    ids: Tensor
    objects: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))

    def __post_init__(self) -> None:
        if len(self.objects) == 0:
            object.__setattr__(self, "objects", self.ids)
        if len(self) == 0:
            raise InputError(
                "silhouettes are drawn from object masks, but the data have none; give masks, as by mask_root of a "
                "Folder, or choose a mask family that needs none, such as patches."
            )

    def __len__(self) -> int:
        return self.object_masks.shape[0]

    @classmethod
    def from_batches(cls, batches: Iterable[Batch], object_of: Callable[[Tensor], Tensor] = one_object_each) -> Self:
        """Collect every non-empty object mask of some batches; the result does not depend on their order.

        Args:
            batches: batches of one image size; samples without an object are passed over, repeated ids kept once.
            object_of: which object (N,) int64 each sample id (N,) shows, as a data module's; one of its own by default.

        Raises:
            InputError: no batch holds a non-empty object mask, or batches differ in size.
        """
        masks, labels, ids = [], [], []
        for batch in batches:
            annotated = batch.object_mask.flatten(1).any(dim=1)
            masks.append(batch.object_mask[annotated].cpu())
            labels.append(batch.labels[annotated].cpu())
            ids.append(batch.ids[annotated].cpu())
        if not masks:
            raise InputError("a silhouette bank needs at least one batch, got none; give it a split that is not empty.")
        sizes = sorted({tuple(mask.shape[2:]) for mask in masks})
        if len(sizes) > 1:
            raise InputError(f"a silhouette bank holds masks of one size, got {sizes}; resize the images to one size.")
        unique_ids, first = unique_first(torch.cat(ids))
        return cls(torch.cat(masks)[first], torch.cat(labels)[first], unique_ids, object_of(unique_ids))

    def seem_inverted(self) -> bool:
        """Whether masks may be black on the objects: most of them cover half of the picture, or all four corners."""
        covered = self.object_masks.flatten(1).sum(dim=1) > self.object_masks[0].numel() / 2
        corners = self.object_masks[:, 0, :: self.object_masks.shape[2] - 1, :: self.object_masks.shape[3] - 1]
        return bool((covered | corners.flatten(1).all(dim=1)).float().mean() > 0.5)

    def to(self, device: torch.device) -> "SilhouetteBank":
        """The same bank on another device."""
        return SilhouetteBank(*(getattr(self, name).to(device) for name in _FIELDS))

    def select(self, rows: Tensor) -> "SilhouetteBank":
        """Some of the objects, at least one: where (N,) bool is True."""
        return SilhouetteBank(*(getattr(self, name)[rows] for name in _FIELDS))


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
