"""The one batch type that every data module yields, and the check that every entry point calls on `visible`."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from maskrobust.errors import InputError


class Batch(NamedTuple):
    """A batch of annotated images, in pixel space.

    A single sample is a `Batch` whose tensors lack the leading dimension.

    Attributes:
        ids: (B,) int64, unique over all splits of a dataset. Evaluation masks depend on (seed, id) alone.
        images: (B, C, H, W) float32 in [0, 1], not normalised.
        object_mask: (B, 1, H, W) bool, True on the annotated object; all False where nothing is annotated.
        labels: (B,) int64 in [0, num_classes).
    """

    ids: Tensor
    images: Tensor
    object_mask: Tensor
    labels: Tensor

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on another device; copies to an accelerator do not wait."""
        non_blocking = torch.device(device).type != "cpu"  # to the CPU, the numbers could be read before they are there
        return Batch(*(tensor.to(device, non_blocking=non_blocking) for tensor in self))

    def select(self, index: Tensor | slice | int) -> "Batch":
        """Some of the samples, as when a tensor is indexed: positions (N,) int64, a mask (B,) bool, a slice, or one."""
        return Batch(*(tensor[index] for tensor in self))

    @staticmethod
    def cat(batches: Sequence["Batch"]) -> "Batch":
        """The samples of at least one batch, one after the other."""
        return Batch(*(torch.cat(column) for column in zip(*batches, strict=True)))


def check_object_mask(object_mask: Tensor) -> None:
    """Refuse an object mask that is not boolean, whose inverse would be no mask.

    Raises:
        TypeError: naming the dtype given.
    """
    if object_mask.dtype != torch.bool:
        raise TypeError(
            f"object_mask must be a bool tensor (True on the object), got {object_mask.dtype}; convert it with "
            "object_mask.bool()."
        )


def check_visible(images: Tensor, visible: Tensor) -> None:
    """Refuse a `visible` that does not fit `images`, before anything is computed with it.

    Args:
        images: (B, C, H, W), any dtype.
        visible: must be (B, 1, H, W), bool, on the same device; True where a pixel may be seen.

    Raises:
        TypeError: `visible` is not boolean.
        InputError: `images` has not four dimensions, or shape or device of `visible` do not match it.
    """
    if images.ndim != 4:
        raise InputError(f"images must be (B, C, H, W), got shape {tuple(images.shape)}; add the batch dimension.")
    if visible.dtype != torch.bool:
        raise TypeError(
            f"visible must be a bool tensor (True where a pixel may be seen), got {visible.dtype}; "
            "convert it with visible.bool()."
        )
    expected = (images.shape[0], 1, *images.shape[2:])
    if visible.shape != expected:
        raise InputError(
            f"visible must have shape {expected} to fit images of shape {tuple(images.shape)}, "
            f"got {tuple(visible.shape)}; give one mask with one channel per image."
        )
    if visible.device != images.device:
        raise InputError(
            f"visible is on {visible.device} but images are on {images.device}; move both to the same device."
        )
