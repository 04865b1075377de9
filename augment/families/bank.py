"""`SilhouetteBank`: outlines of objects, collected from batches and kept in one file, for holes of their shape."""

import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskrobust.augment.batch import Batch
from maskrobust.errors import InputError, MissingFileError, library_needed
from maskrobust.tensor_files import read_safetensors

_FIELDS = {"object_masks": torch.bool, "labels": torch.int64, "ids": torch.int64, "objects": torch.int64}


def one_object_each(ids: Tensor) -> Tensor:
    """Which object each sample shows where a data module does not say: one of its own, named by the sample's id."""
    return ids.clone()  # a file of tensors takes no memory twice


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

    @cached_property
    def by_object(self) -> Tensor:
        """(N,) int64, the positions sorted by object, then by id."""
        return self.objects.argsort(stable=True)

    @cached_property
    def object_ranks(self) -> Tensor:
        """(N,) int64, the objects numbered from 0 in ascending order."""
        ranks: Tensor = self.objects.unique(return_inverse=True)[1]
        return ranks

    @cached_property
    def thickest(self) -> tuple[Tensor, Tensor]:
        """The pixel of each object farthest from its outside, and this distance in pixels: (N, 2) int64, (N,) float64.

        Pixels are (row, column).
        """
        found = [distances(np.pad(mask, 1))[1:-1, 1:-1] for mask in self.object_masks[:, 0].cpu().numpy()]
        depths = torch.from_numpy(np.stack(found)).flatten(1).to(self.ids.device)
        farthest = depths.argmax(dim=1)
        width = self.object_masks.shape[3]
        return torch.stack([farthest // width, farthest % width], dim=1), depths.amax(dim=1)

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

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a bank that `save` has written, onto the CPU; a file without `objects` has masks of one object each.

        Raises:
            MissingFileError: there is no such file.
            InputError: the file is no safetensors file, or holds anything but a valid bank.
        """
        if not Path(path).is_file():
            raise MissingFileError(f"a silhouette bank must be a file, but '{path}' does not exist; check the path.")
        fields = read_safetensors(Path(path))
        fault = _find_fault(fields)
        if fault is not None:
            raise InputError(f"'{path}' is no silhouette bank: {fault}; write it with SilhouetteBank.save.")
        return cls(**fields)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the bank to one safetensors file, which is there whole or not at all; the folder is made when missing.

        Args:
            path: the file; one that exists is replaced.
        """
        with library_needed():
            import safetensors.torch

        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            safetensors.torch.save_file({name: getattr(self, name).contiguous() for name in _FIELDS}, temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def to(self, device: torch.device) -> "SilhouetteBank":
        """The same bank on another device."""
        return SilhouetteBank(*(getattr(self, name).to(device) for name in _FIELDS))

    def select(self, rows: Tensor) -> "SilhouetteBank":
        """Some of the objects, at least one: where (N,) bool is True."""
        return SilhouetteBank(*(getattr(self, name)[rows] for name in _FIELDS))


def distances(pixels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance of each True pixel of (H, W) to the nearest False one, 0 where False: (H, W)."""
    import cv2

    return np.asarray(cv2.distanceTransform(pixels.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float64)


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


def _find_fault(fields: Mapping[str, Tensor]) -> str | None:
    """What keeps the tensors of a file from being a bank; None where nothing does."""
    if fields.keys() | {"objects"} != _FIELDS.keys():
        return f"it must hold {', '.join(_FIELDS)}, got {', '.join(sorted(fields)) or 'nothing'}"
    for name, tensor in fields.items():
        if tensor.dtype != _FIELDS[name]:
            return f"{name} must be {_FIELDS[name]}, got {tensor.dtype}"
    masks, ids = fields["object_masks"], fields["ids"]
    is_column = [tensor.shape == masks.shape[:1] for name, tensor in fields.items() if name != "object_masks"]
    if masks.ndim != 4 or masks.shape[1] != 1 or not len(masks) or not all(is_column):
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in fields.items())
        return f"object_masks must be (N, 1, H, W), all others (N,) with N > 0, got {shapes}"
    if not (ids.diff() > 0).all():
        return "ids must ascend, got some that do not"
    if not masks.flatten(1).any(dim=1).all():
        return "every object mask must hold an object, got an empty one"
    return None
