"""What a network answered under every condition, per image: all that the measures need, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np

from lm_modules.reliance.arrays import BoolArray, FloatArray, IntArray, read_arrays

_SHARED = ("num_classes", "hidden_fractions")


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Predictions of one network with one masking method on N images, sorted by id, each id once.

    Attributes:
        num_classes: number of classes.
        hidden_fractions: (F,) float64, shares of hidden patches.
        ids: (N,) int64, ascending.
        labels: (N,) int64 true classes.
        clean: (N,) int64 predictions with nothing hidden.
        silhouette: (N,) int64 predictions with the object hidden along its outline; -1 where not `object_valid`.
        circle: (N,) int64 predictions with its enclosing circle hidden; -1 where not `object_valid`.
        whole_mask: (N,) int64 predictions with the object alone hidden along its outline, without the companion blob of
            `silhouette`; -1 where not `object_valid`.
        broken_mask: (N,) int64 predictions with the same mask broken and hidden; -1 where not `object_valid`.
        patches: (F, N) int64 predictions with patches hidden.
        swap_j: (N,) int64 predictions with object j's silhouette hidden; -1 where not `swap_valid`.
        swap_k: (N,) int64 predictions with object k's silhouette hidden; -1 where not `swap_valid`.
        swap_label_j: (N,) int64 class of j; -1 where not `swap_valid`.
        swap_label_k: (N,) int64 class of k; -1 where not `swap_valid`.
        swap_area_difference: (N,) float64 in [0, 1), relative difference of the areas of j and k; NaN where not
            `swap_valid`.
        object_valid: (N,) bool, False where an image has no object or no room for the companion blob.
        swap_valid: (N,) bool, False where the bank has no two other classes.
        sensitivity: (N,) float64, largest absolute change of a logit when the pixels hidden by the silhouette are
            redrawn; NaN where not `object_valid`.
    """

    num_classes: int
    hidden_fractions: FloatArray
    ids: IntArray
    labels: IntArray
    clean: IntArray
    silhouette: IntArray
    circle: IntArray
    whole_mask: IntArray
    broken_mask: IntArray
    patches: IntArray
    swap_j: IntArray
    swap_k: IntArray
    swap_label_j: IntArray
    swap_label_k: IntArray
    swap_area_difference: FloatArray
    object_valid: BoolArray
    swap_valid: BoolArray
    sensitivity: FloatArray

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def merge(cls, parts: Sequence[Self]) -> Self:
        """Join the outcomes of several batches or ranks; of a repeated id the first occurrence is kept.

        Args:
            parts: at least one, of the same classes and hidden fractions.

        Raises:
            ValueError: there is no part, or parts differ in classes or hidden fractions.
        """
        if not parts:
            raise ValueError("merging outcomes needs at least one part, got none; feed the suite a batch first.")
        first = parts[0]
        for part in parts:
            if part.num_classes != first.num_classes or not np.array_equal(
                part.hidden_fractions, first.hidden_fractions
            ):
                raise ValueError(
                    "outcomes to merge must share classes and hidden fractions, got "
                    f"{part.num_classes} classes at {part.hidden_fractions.tolist()} beside "
                    f"{first.num_classes} at {first.hidden_fractions.tolist()}; evaluate them with one configuration."
                )
        _, kept = np.unique(np.concatenate([part.ids for part in parts]), return_index=True)
        per_image = {
            field.name: np.concatenate([getattr(part, field.name) for part in parts], axis=-1)[..., kept]
            for field in fields(cls)
            if field.name not in _SHARED
        }
        return cls(num_classes=first.num_classes, hidden_fractions=first.hidden_fractions, **per_image)

    def save(self, path: Path) -> None:
        """Write every field to `path` as an npz archive, replacing what is there."""
        arrays: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; nothing in the file is executed.

        Raises:
            ValueError: the file is missing, is no readable npz archive, or lacks a field.
        """
        arrays = read_arrays(path, [field.name for field in fields(cls)])
        return cls(**(arrays | {"num_classes": int(arrays["num_classes"])}))
