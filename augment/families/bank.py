"""`SilhouetteBank` and `HoleBank`: outlines of objects, and holes of images, collected from batches."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

from maskrobust.augment.batch import Batch
from maskrobust.errors import InputError


def one_object_each(ids: Tensor) -> Tensor:
    """Which object each sample shows where a data module does not say: one of its own, named by the sample's id."""
    return ids


class _Rows:
    """Tensors with a row for each sample, in the fields of a data class, of which `ids` is one."""

    ids: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device) -> Self:
        """The same bank on another device."""
        return self._each(lambda tensor: tensor.to(device))

    def select(self, rows: Tensor) -> Self:
        """Some of the samples: where (N,) bool is True, or those at positions in ascending order."""
        return self._each(lambda tensor: tensor[rows])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        return type(self)(*map(change, vars(self).values()))


@dataclass(frozen=True)
class SilhouetteBank(_Rows):
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

    @classmethod
    def from_batches(cls, batches: Iterable[Batch], object_of: Callable[[Tensor], Tensor] = one_object_each) -> Self:
        """Collect every non-empty object mask of some batches; the result does not depend on their order.

        Args:
            batches: batches of one image size; samples without an object are passed over, repeated ids kept once.
            object_of: which object (N,) int64 each sample id (N,) shows, as a data module's; one of its own by default.

        Raises:
            InputError: no batch holds a non-empty object mask, or batches differ in size.
        """
        annotated = ((batch, batch.object_mask.flatten(1).any(dim=1)) for batch in batches)
        found = [(batch.object_mask[of].cpu(), batch.labels[of].cpu(), batch.ids[of].cpu()) for batch, of in annotated]
        if not found:
            raise InputError("a silhouette bank needs at least one batch, got none; give it a split that is not empty.")
        return cls(*_collected("a silhouette bank holds masks", found, object_of))

    def seem_inverted(self) -> bool:
        """Whether masks may be black on the objects: most of them cover half of the picture, or all four corners."""
        covered = self.object_masks.flatten(1).sum(dim=1) > self.object_masks[0].numel() / 2
        corners = self.object_masks[:, 0, :: self.object_masks.shape[2] - 1, :: self.object_masks.shape[3] - 1]
        return bool((covered | corners.flatten(1).all(dim=1)).float().mean() > 0.5)


@dataclass(frozen=True)
class HoleBank(_Rows):
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
        return cls(*_collected("holes are exchanged between images", found, object_of))

    def has_hole(self) -> Tensor:
        """Which images have a hole, (N,) bool."""
        return ~self.visible.flatten(1).all(dim=1)


def _collected(
    purpose: str, found: Sequence[tuple[Tensor, Tensor, Tensor]], object_of: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Masks, labels, ids and objects of some batches' masks, labels and ids, each id once, in ascending order."""
    check_one_size(purpose, [masks for masks, _, _ in found])
    masks, labels, ids = map(torch.cat, zip(*found, strict=True))
    unique_ids, first = unique_first(ids)
    return masks[first], labels[first], unique_ids, object_of(unique_ids)


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
