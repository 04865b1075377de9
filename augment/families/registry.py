"""Mask families by name, for configuration files, transforms and galleries."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, Protocol, assert_never, get_args

from torch import Tensor

from maskrobust.augment.batch import Batch
from maskrobust.augment.families.bank import SilhouetteBank
from maskrobust.augment.families.circles import enclosing_circles
from maskrobust.augment.families.fraction import check_hidden_fraction
from maskrobust.augment.families.irregular import blobs
from maskrobust.augment.families.objects import broken_silhouettes, companions, objects
from maskrobust.augment.families.patches import patches
from maskrobust.augment.families.rectangles import rectangles
from maskrobust.augment.families.silhouettes import SilhouetteOf, silhouettes
from maskrobust.augment.families.superpixels import superpixels
from maskrobust.errors import InputError

FamilyName = Literal[
    "patches",
    "rectangles",
    "blobs",
    "slic",
    "quickshift",
    "silhouettes",
    "own_class_silhouettes",
    "other_class_silhouettes",
    "objects",
    "broken_silhouettes",
    "enclosing_circles",
    "companions",
]
FAMILIES: tuple[FamilyName, ...] = get_args(FamilyName)

BANK_FAMILIES: frozenset[FamilyName] = frozenset({"silhouettes", "own_class_silhouettes", "other_class_silhouettes"})
"""The families that draw from a `SilhouetteBank`."""

OBJECT_FAMILIES: frozenset[FamilyName] = frozenset({"objects", "broken_silhouettes", "enclosing_circles", "companions"})
"""The families that are made from the sample's own object; nothing is hidden from an image without one."""

MaskFamily = Callable[[Tensor, Batch], Tensor]
"""(keys (B,) int64, the batch to be masked) -> visible (B, 1, H, W) bool, of the size of the batch's images."""


class _SizedFamily(Protocol):
    def __call__(self, keys: Tensor, height: int, width: int) -> Tensor: ...


def build_family(
    name: FamilyName,
    *,
    hidden_fraction: tuple[float, float] = (0.1, 0.9),
    patch_size: int | tuple[int, int] = 16,
    bank: SilhouetteBank | None = None,
) -> MaskFamily:
    """A mask family by name. It can be pickled.

    Args:
        name: one of `FAMILIES`. "slic" and "quickshift" segment each image on the CPU, all others are batched tensor
            code on the device of the keys (but for the circles of "enclosing_circles" and "companions").
        hidden_fraction: (low, high) share of the image that is hidden, by "patches", "rectangles", "blobs", "slic" and
            "quickshift"; the others hide what the objects cover.
        patch_size: side of a patch in pixels, or its (height, width).
        bank: where the `BANK_FAMILIES` take their silhouettes from, on the device of the keys.

    Raises:
        InputError: the name is unknown, a bank is needed and not given, or the range is not 0 <= low <= high <= 1.
    """
    check_hidden_fraction(hidden_fraction)
    if name not in FAMILIES:
        raise InputError(f"name must be one of {', '.join(FAMILIES)}, got '{name}'; choose one of these.")
    match name:
        case "patches":
            return partial(_of_size, partial(patches, hidden_fraction=hidden_fraction, patch_size=patch_size))
        case "rectangles":
            return partial(_of_size, partial(rectangles, hidden_fraction=hidden_fraction))
        case "blobs":
            return partial(_of_size, partial(blobs, hidden_fraction=hidden_fraction))
        case "slic" | "quickshift":
            return partial(superpixels, method=name, hidden_fraction=hidden_fraction)
        case "silhouettes" | "own_class_silhouettes" | "other_class_silhouettes":
            return partial(_silhouettes, of=_CLASS_OF_SILHOUETTES[name], bank=_needed(bank, name))
        case "objects" | "broken_silhouettes" | "enclosing_circles" | "companions":
            return _MADE_FROM_OBJECT[name]
        case _:
            assert_never(name)


def _needed(bank: SilhouetteBank | None, name: str) -> SilhouetteBank:
    if bank is None:
        raise InputError(
            f"mask family '{name}' draws from a SilhouetteBank, got none; build one with SilhouetteBank.from_batches."
        )
    return bank


def _of_size(family: _SizedFamily, keys: Tensor, batch: Batch) -> Tensor:
    return family(keys, *batch.images.shape[2:])


def _silhouettes(keys: Tensor, batch: Batch, *, of: SilhouetteOf, bank: SilhouetteBank) -> Tensor:
    return silhouettes(keys, *batch.images.shape[2:], bank=bank, of=of, labels=batch.labels, ids=batch.ids)


def _objects(_keys: Tensor, batch: Batch) -> Tensor:
    return objects(batch.object_mask)


def _broken_silhouettes(_keys: Tensor, batch: Batch) -> Tensor:
    return broken_silhouettes(batch.object_mask)


def _enclosing_circles(_keys: Tensor, batch: Batch) -> Tensor:
    return ~enclosing_circles(batch.object_mask)


def _companions(keys: Tensor, batch: Batch) -> Tensor:
    return companions(keys, batch.object_mask)


_CLASS_OF_SILHOUETTES: Mapping[FamilyName, SilhouetteOf] = {
    "silhouettes": "any",
    "own_class_silhouettes": "own_class",
    "other_class_silhouettes": "other_class",
}
_MADE_FROM_OBJECT: Mapping[FamilyName, MaskFamily] = {
    "objects": _objects,
    "broken_silhouettes": _broken_silhouettes,
    "enclosing_circles": _enclosing_circles,
    "companions": _companions,
}
