"""`Outcomes`: a network's predictions for each image with each hole, from which measures are computed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from maskrobust.errors import InputError, did_you_mean
from maskrobust.lm_modules.reliance.arrays import BoolArray, FloatArray, IntArray, read_arrays

_BY_CONDITION = ("predictions", "log_odds", "donors")

SCENE_KINDS = ("flat", "noise", "photographs")
"""Kinds of empty scenes: plain colours, noise of several spectra, and photographs."""


class SceneAnswers(NamedTuple):
    """What one network answers about N shapes cut as holes into S empty scenes; see `reliance.scenes`.

    Attributes:
        kinds: (S,) int64, the kind of each scene, its position in `SCENE_KINDS`.
        energy: (S,) float64, its texture energy.
        objects: (N,) int64, the object of each shape.
        columns: (N,) int64, the column of its class in `logits`.
        pairs: (P, 2) int64 positions of shapes that are compared.
        logits: (N, S, K) float32, those of the K classes of the shapes.
    """

    kinds: IntArray
    energy: FloatArray
    objects: IntArray
    columns: IntArray
    pairs: IntArray
    logits: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Predictions of one network with one masking method on N images, sorted by id, each id once.

    Attributes:
        num_classes: number of the data's classes.
        ids: (N,) int64, ascending.
        objects: (N,) int64, which object each image shows: the ids, unless several images show one.
        labels: (N,) int64 true classes.
        predictions: (N,) int64 by condition; -1 where an image was not asked under it. Always holds "clean", with
            nothing hidden; the others are those of a `ReliancePlan`, named in `lm_modules.reliance.holes.conditions`.
            A prediction of num_classes or more is none of the data's classes.
        object_fraction: (N,) float64 in [0, 1], fraction of the pixels that belong to the object.
        swap_label_j: (N,) int64 class of j; -1 where not `swap_valid`.
        swap_label_k: (N,) int64 class of k; -1 where not `swap_valid`.
        swap_object_j: (N,) int64 which object j is, numbered as `objects`; -1 where not `swap_valid`.
        swap_object_k: (N,) int64 which object k is; -1 where not `swap_valid`.
        object_valid: (N,) bool, False where an image has no object or no room for the companion blob.
        swap_valid: (N,) bool, False where the bank has no two other classes, or an image has no object.
        scenes: answers about empty scenes; None where it was not asked about them.
        log_odds: (N, 3) float32 by condition, of the image's class, of j and of k against all other outputs, behind
            "swap_j" and "swap_k"; NaN where an image was not asked, or an output has no others.
        donors: (N, 2, 3) int64 by pair, "0", "1", ...: of both images that lend an image their holes the sample id, the
            object and the class; -1 where there is no pair.
    """

    num_classes: int
    ids: IntArray
    objects: IntArray
    labels: IntArray
    predictions: Mapping[str, IntArray]
    object_fraction: FloatArray
    swap_label_j: IntArray
    swap_label_k: IntArray
    swap_object_j: IntArray
    swap_object_k: IntArray
    object_valid: BoolArray
    swap_valid: BoolArray
    scenes: SceneAnswers | None = None
    log_odds: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    donors: Mapping[str, IntArray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def merge(cls, parts: Sequence[Self]) -> Self:
        """Join the outcomes of several batches or ranks; of a repeated id the first occurrence is kept.

        Answers about scenes are those of the first part that has some.

        Args:
            parts: at least one, of the same classes and conditions.

        Raises:
            InputError: there is no part, parts differ in classes or conditions, or two images have one id.
        """
        if not parts:
            raise InputError("merging outcomes needs at least one part, got none; feed the suite a batch first.")
        first = parts[0]
        for part in parts:
            if any([*getattr(part, kind)] != [*getattr(first, kind)] for kind in _BY_CONDITION) or (
                part.num_classes != first.num_classes
            ):
                raise InputError(
                    f"outcomes to merge must share classes and conditions, got {part.num_classes} classes under "
                    f"{[*part.predictions]} beside {first.num_classes} under {[*first.predictions]}; evaluate them "
                    "with one configuration."
                )
        _, kept, own = np.unique(np.concatenate([part.ids for part in parts]), return_index=True, return_inverse=True)
        tables = [part._arrays() for part in parts]
        joined = {
            name: np.concatenate([table[name] for table in tables])[kept]
            for name in tables[0]
            if name != "num_classes" and not name.startswith("scenes/")
        }
        for name in ("labels", "objects", "object_fraction"):
            differs = np.concatenate([table[name] for table in tables]) != joined[name][own]
            if differs.any():
                raise InputError(
                    f"every image must have an id of its own, but {joined['ids'][own[differs][0]]} is that of images "
                    f"with different {name}; give each another one, over all batches."
                )
        scenes = next((part.scenes for part in parts if part.scenes is not None), None)
        return cls._of(joined, num_classes=first.num_classes, scenes=scenes)

    def predictions_under(self, condition: str) -> IntArray:
        """Predictions (N,) int64 under a condition; -1 where an image was not asked.

        Raises:
            InputError: there is no such condition, naming those that there are.
        """
        if condition not in self.predictions:
            near = did_you_mean(condition, self.predictions)
            raise InputError(f"condition must be one of the plan's, got '{condition}'{near}; add it to the plan.")
        return self.predictions[condition]

    def log_odds_under(self, condition: str) -> NDArray[np.float32]:
        """Log-odds (N, 3) float32 under a condition.

        Raises:
            InputError: there are none, as in outcomes of an earlier version.
        """
        if condition not in self.log_odds:
            raise InputError(
                f"outcomes must hold log-odds, but have none under '{condition}'; delete those of an earlier version "
                "to have them made again."
            )
        return self.log_odds[condition]

    def save(self, path: Path) -> None:
        """Write every field to `path` as an npz archive, replacing what is there."""
        with path.open("wb") as file:
            np.savez_compressed(file, **self._arrays())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; nothing in the file is executed.

        Raises:
            InputError: the file is missing, is no readable npz archive, or lacks a field.
        """
        found = read_arrays(path, [*_plain_fields(), "predictions/clean"])
        of_scenes = {name: found[f"scenes/{name}"] for name in SceneAnswers._fields if f"scenes/{name}" in found}
        scenes = SceneAnswers(**of_scenes) if of_scenes else None
        return cls._of(found, num_classes=int(found["num_classes"]), scenes=scenes)

    @classmethod
    def _of(cls, arrays: Mapping[str, Any], **others: Any) -> Self:
        """From arrays by their names in `_arrays`, and fields that are none."""
        found: dict[str, Any] = {name: arrays[name] for name in _plain_fields() if name not in others}
        for kind in _BY_CONDITION:
            start = f"{kind}/"
            found[kind] = {name.removeprefix(start): arrays[name] for name in arrays if name.startswith(start)}
        return cls(**found, **others)

    def _arrays(self) -> dict[str, Any]:
        """Every array by its name in a file; those of a condition as "predictions/condition"."""
        plain = {name: getattr(self, name) for name in _plain_fields()}
        by_condition = {
            f"{kind}/{condition}": values for kind in _BY_CONDITION for condition, values in getattr(self, kind).items()
        }
        of_scenes = {} if self.scenes is None else self.scenes._asdict()
        return plain | by_condition | {f"scenes/{name}": values for name, values in of_scenes.items()}


def _plain_fields() -> list[str]:
    """Names of the fields that are one array or number each."""
    return [each.name for each in fields(Outcomes) if each.name not in ("scenes", *_BY_CONDITION)]
