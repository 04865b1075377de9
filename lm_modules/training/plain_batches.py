"""Batches of any data module as `Batch`: pairs, triples or dictionaries of images, labels and visible pixels."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from maskrobust.augment import Batch
from maskrobust.augment.batch import check_layout
from maskrobust.errors import InputError

_NAMES = {"images": ("images", "image"), "labels": ("labels", "label", "target", "mask"), "visible": ("visible",)}
_OPTIONAL = {"object_mask": ("object_mask",), "ids": ("ids", "id")}


def as_batch(given: Any, places: range, *, per_pixel: bool = False) -> Batch:
    """A batch as a training takes it; one that is a `Batch` already is returned.

    Args:
        given: (images, labels), (images, labels, visible), or a dictionary with these names, in the singular or not,
            and where there are any `object_mask` and `ids`. Images are (B, C, H, W), uint8 or float in [0, 1]; labels
            (B,), or of pixels (B, H, W); visible and object_mask (B, 1, H, W) or (B, H, W), not 0 where True.
        places: ids of samples without ids, of which the first B are taken.
        per_pixel: whether labels are of pixels.

    Raises:
        InputError: it is none of these.
    """
    if isinstance(given, Batch):
        return given
    found = _named(given)
    images, labels = found.get("images"), found.get("labels")
    if not isinstance(images, Tensor) or not isinstance(labels, Tensor) or images.ndim != 4:
        raise InputError(
            "a batch must be (images, labels), (images, labels, visible) or a dictionary with these names, of images "
            f"(B, C, H, W), got {_described(given)}; let the data module's loaders yield that."
        )
    check_layout(images)
    expected = (len(images), *(images.shape[2:] if per_pixel else ()))
    if labels.shape != expected or labels.is_floating_point():
        raise InputError(f"labels must be {expected} integers, got {_described(labels)}; give each one.")
    visible, objects = (_plane(name, found.get(name), images) for name in ("visible", "object_mask"))
    images = images if visible is None else images.where(visible, 0)  # NaN times 0 would be NaN
    if images.is_floating_point() and places.start == 0 and not (images.min() >= 0 and images.max() <= 1):
        raise InputError(
            f"images must be in [0, 1], got numbers from {float(images.min()):.3g} to {float(images.max()):.3g}; leave "
            "Normalize out of the data, for the network normalises by data.mean and data.std."
        )
    if objects is None:
        objects = torch.zeros_like(images[:, :1], dtype=torch.bool)
    ids = found.get("ids")
    ids = torch.tensor(places[: len(images)]) if ids is None else torch.as_tensor(ids, dtype=torch.int64)
    return Batch(ids, images, objects, labels.long(), visible)


def _named(given: Any) -> dict[str, Any]:
    if isinstance(given, Mapping):
        names = (_NAMES | _OPTIONAL).items()
        return {name: given[key] for name, spellings in names for key in spellings if key in given}
    is_sequence = isinstance(given, tuple | list) and 2 <= len(given) <= len(_NAMES)
    return dict(zip(_NAMES, given, strict=False)) if is_sequence else {}


def _plane(name: str, given: Any, images: Tensor) -> Tensor | None:
    """A mask (B, 1, H, W) bool, from that or (B, H, W), of any numbers."""
    if given is None:
        return None
    size = (len(images), 1, *images.shape[2:])
    if not isinstance(given, Tensor) or given.shape not in (size, (size[0], *size[2:])):
        raise InputError(f"{name} must be {size}, as its images are, got {_described(given)}; give one mask an image.")
    return given.reshape(size) != 0


def _described(given: Any) -> str:
    if isinstance(given, Tensor):
        return f"{given.dtype} of shape {tuple(given.shape)}"
    if isinstance(given, Mapping):
        return f"a dictionary of {', '.join(map(str, given)) or 'nothing'}"
    if isinstance(given, tuple | list):
        return f"{len(given)} parts ({', '.join(map(_described, given[:4]))})"
    return type(given).__name__
