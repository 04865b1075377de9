"""`SilhouetteBank` and `HoleBank`: outlines of objects, and holes of images, collected from batches."""

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
        check_one_size("a silhouette bank holds masks", masks)
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


@dataclass(frozen=True)
class HoleBank:
    """What may be seen of each image of a split, sorted by sample id: the holes that images bring along.

    Attributes:
        visible: (N, 1, H, W) bool, False where an image holds no data. Images without a hole are among them.
        labels: (N,) int64 class of each image.
        ids: (N,) int64 id of each sample, ascending.
        objects: (N,) int64, equal for images of the same object.
    """

    visible: Tensor
    labels: Tensor
    ids: Tensor
    objects: Tensor

    def __len__(self) -> int:
        return self.visible.shape[0]

    @classmethod
    def from_batches(
        cls, batches: Iterable[Batch], object_of: Callable[[Tensor], Tensor] = one_object_each
    ) -> Self | None:
        """Collect what may be seen of all images of some batches; the result does not depend on their order.

        Args:
            batches: batches of one image size; repeated ids are kept once.
            object_of: which object (N,) int64 each sample id (N,) shows, as a data module's; one of its own by default.

        Returns:
            The bank; None where no image has a hole.

        Raises:
            InputError: batches differ in size.
        """
        found = [(batch.known.cpu(), batch.labels.cpu(), batch.ids.cpu()) for batch in batches]
        if all(visible.all() for visible, _, _ in found):
            return None
        check_one_size("holes are exchanged between images", [visible for visible, _, _ in found])
        visible, labels, ids = map(torch.cat, zip(*found, strict=True))
        unique_ids, first = unique_first(ids)
        return cls(visible[first], labels[first], unique_ids, object_of(unique_ids))

    def has_hole(self) -> Tensor:
        """Which images have a hole, (N,) bool."""
        return ~self.visible.flatten(1).all(dim=1)

    def select(self, rows: Tensor) -> "HoleBank":
        """Some of the images, where (N,) bool is True, or those at positions in ascending order."""
        return HoleBank(self.visible[rows], self.labels[rows], self.ids[rows], self.objects[rows])

    def to(self, device: torch.device) -> "HoleBank":
        """The same bank on another device."""
        return HoleBank(*(each.to(device) for each in (self.visible, self.labels, self.ids, self.objects)))


def check_one_size(purpose: str, masks: Iterable[Tensor]) -> None:
    """Refuse masks (N, 1, H, W) of several sizes.

    Raises:
        InputError: naming the purpose and the sizes.
    """
    sizes = sorted({tuple(mask.shape[2:]) for mask in masks})
    if len(sizes) > 1:
        raise InputError(f"{purpose} of one size, got {sizes}; resize the images to one size.")


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
