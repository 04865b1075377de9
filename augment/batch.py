"""`Batch`, which every data module yields: images, object masks, labels, ids. Also checks of images and `visible`.

What shape and dtype tell is refused on every device. What only values tell is looked at where nothing waits for it: on
a CPU, outside of compiled code, in the first image of a batch.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from maskrobust.errors import InputError

LAYOUTS = {3: "(B, C, L)", 4: "(B, C, H, W)", 5: "(B, C, D, H, W)"}
"""Axes of signals, images and volumes, by their number."""

_MOST_COLOURS, _LEAST_SIDE = 13, 16  # as many as the bands of Sentinel-2
_FARTHEST = 16.0
"""Normalised images reach from -3 to 3; bytes, 255."""


class Batch(NamedTuple):
    """A batch of annotated images, in pixel space.

    A single sample is a `Batch` whose tensors lack the leading dimension.

    Attributes:
        ids: (B,) int64, unique over all splits of a dataset. Evaluation masks depend on (seed, id) alone.
        images: (B, C, H, W), not normalised: float32 in [0, 1]. Loaders of `maskrobust.train.data` yield uint8 in
            [0, 255], a quarter of the bytes, which `to` converts.
        object_mask: (B, 1, H, W) bool, True on the annotated object; all False where nothing is annotated.
        labels: (B,) int64 in [0, num_classes); (B, H, W) where each pixel has a label, or that of pixels without one.
        visible: (B, 1, H, W) bool, False at pixels that hold no data, which are hidden whatever else is; None where
            every pixel holds some.
    """

    ids: Tensor
    images: Tensor
    object_mask: Tensor
    labels: Tensor
    visible: Tensor | None = None

    @property
    def known(self) -> Tensor:
        """(B, 1, H, W) bool, `visible`, or True everywhere."""
        return torch.ones_like(self.object_mask) if self.visible is None else self.visible

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on a device, which may be its own, with images in [0, 1]: uint8 x becomes float32 x / 255.

        Copies to an accelerator do not wait. Lightning calls this for every batch that it hands to a module.
        """
        non_blocking = torch.device(device).type != "cpu"  # to the CPU, the numbers could be read before they are there
        moved = self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))
        return moved._replace(images=in_unit_range(moved.images))

    def select(self, index: Tensor | slice | int) -> "Batch":
        """Some of the samples, as when a tensor is indexed: positions (N,) int64, a mask (B,) bool, a slice, or one."""
        return self._each(lambda tensor: tensor[index])

    @staticmethod
    def cat(batches: Iterable["Batch"]) -> "Batch":
        """The samples of at least one batch, one after the other."""
        parts = [*batches]

        def joined(name: str) -> Tensor:
            return torch.cat([getattr(each, name) for each in parts])

        visible = joined("known") if any(each.visible is not None for each in parts) else None
        return Batch(joined("ids"), joined("images"), joined("object_mask"), joined("labels"), visible)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        return Batch._make(None if tensor is None else change(tensor) for tensor in self)


def check_all_known(batch: Batch, user: str) -> None:
    """Refuse images with pixels without data where these would be taken for what they show.

    Args:
        batch: a batch of images.
        user: what takes whole images alone, for the message.

    Raises:
        InputError: the batch has `visible`.
    """
    if batch.visible is not None:
        raise InputError(
            f"{user} takes images of which every pixel holds data, got some without; leave visible out, or mask the "
            "images yourself (maskrobust.LayerMasking)."
        )


def in_unit_range(images: Tensor) -> Tensor:
    """Pixels as numbers in [0, 1]: uint8 x as float32 x / 255, correctly rounded on any device; floats as they are."""
    if images.dtype != torch.uint8:
        return images
    white = torch.full((), 255.0, device=images.device)  # CUDA multiplies by the reciprocal of a Python number
    return images.to(torch.float32).div_(white)


def in_colours(images: Tensor, bands: Sequence[int] | None = None) -> Tensor:
    """Three bands of images, for people: (..., 3, H, W) of (..., C, H, W).

    Args:
        images: any number of bands.
        bands: numbers, from 1, of those shown as red, green and blue; None for the first three, or of fewer the first.

    Raises:
        InputError: images have not so many bands.
    """
    if max(bands or [1]) > images.shape[-3]:
        raise InputError(
            f"show_bands must be at most {images.shape[-3]}, the number of bands, got {bands}; correct it."
        )
    chosen = bands or ((1, 2, 3) if images.shape[-3] >= 3 else (1, 1, 1))
    return images[..., [band - 1 for band in chosen], :, :]


def check_floating(images: Tensor) -> None:
    """Refuse images that are still bytes, as loaders yield them.

    Raises:
        TypeError: naming the dtype given.
    """
    if not images.is_floating_point():
        raise TypeError(f"images must be float in [0, 1], got {images.dtype}; take them from batch.to(device).")


def check_tensor(name: str, value: object) -> None:
    """Raise a `TypeError` where an argument is no tensor, such as a NumPy array or a picture of PIL's."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name} must be a torch tensor, got {type(value).__module__}.{type(value).__name__}; convert it, as with "
            "torch.as_tensor."
        )


def check_layout(images: Tensor) -> None:
    """Refuse images whose last axis are colours, as NumPy and PIL have it.

    Args:
        images: (..., C, H, W), any dtype.

    Raises:
        InputError: the last axis has 1 to 13 values, and the two before it 16 or more, as in (B, H, W, C).
    """
    *_, first, second, last = images.shape
    if last <= _MOST_COLOURS and min(first, second) >= _LEAST_SIDE:
        axes = ("2, 0, 1", "(H, W, C)") if images.ndim == 3 else ("0, 3, 1, 2", "(B, H, W, C)")
        raise InputError(
            f"images must be (B, C, H, W) or (C, H, W), got shape {tuple(images.shape)}, which looks like {axes[1]}; "
            f"permute them, as with images.permute({axes[0]})."
        )


def farthest_value(images: Tensor, visible: Tensor) -> float | None:
    """The visible value of the first image that is farthest from 0, where it is farther than of any that is normalised.

    Args:
        images: (B, C, H, W).
        visible: (B, 1, H, W) bool.

    Returns:
        The value, beyond -16 or 16; None where there is none, and where it would have to be waited for: on an
        accelerator, in compiled code, and under `torch.vmap`.
    """
    is_known = images.device.type == "cpu" and not torch.compiler.is_compiling() and not is_mapped()
    if not is_known or not images.is_floating_point():
        return None
    first = images[:1].detach()
    if (
        not first.numel() or abs(_farthest(first)) <= _FARTHEST
    ):  # whatever is hidden: a twentieth of the time of the rest
        return None
    farthest = _farthest(first.masked_fill(~visible[:1], 0.0))
    return farthest if abs(farthest) > _FARTHEST else None


def is_mapped() -> bool:
    """Whether `torch.vmap` is at work, under which no value can be looked at."""
    transforms = torch._C._functorch.get_interpreter_stack() or []
    return any(each.key() == torch._C._functorch.TransformType.Vmap for each in transforms)


def _farthest(values: Tensor) -> float:
    return max(map(float, values.aminmax()), key=abs)


def check_object_mask(object_mask: Tensor) -> None:
    """Refuse an object mask that is not boolean, whose inverse would be no mask.

    Raises:
        TypeError: naming what was given.
    """
    check_tensor("object_mask", object_mask)
    if object_mask.dtype != torch.bool:
        raise TypeError(
            f"object_mask must be a bool tensor (True on the object), got {object_mask.dtype}; convert it with "
            "object_mask.bool()."
        )


def first_images(batches: Iterable[Batch], count: int) -> Iterator[Batch]:
    """Batches until they hold `count` images, at least 1, the last one cut."""
    for batch in batches:
        yield batch.select(slice(count))
        count -= len(batch.ids)
        if count <= 0:
            return


def first_objects(batches: Iterable[Batch], count: int) -> Iterator[Batch]:
    """Batches until they hold `count` objects or more."""
    for batch in batches:
        yield batch
        count -= int(batch.object_mask.flatten(1).any(dim=1).sum())
        if count <= 0:
            return


def check_visible(images: Tensor, visible: Tensor, axes: Collection[int] = (4,)) -> None:
    """Refuse a `visible` that does not fit `images`, before anything is computed with it.

    Args:
        images: (B, C, H, W), any dtype; or as `axes` says.
        visible: must be (B, 1, H, W), bool, on the same device; True where a pixel may be seen.
        axes: how many axes images may have: 3 for signals (B, C, L), 5 for volumes (B, C, D, H, W).

    Raises:
        TypeError: one of them is no tensor, or `visible` is not boolean.
        InputError: `images` has another number of axes, or looks like (B, H, W, C), or shape or device of `visible` do
            not match it.
    """
    check_tensor("images", images)
    check_tensor("visible", visible)
    if images.ndim not in axes:
        wanted, few = " or ".join(LAYOUTS[each] for each in axes), images.ndim < max(axes)
        remedy = "add the batch dimension" if few else "put frames and slices into the batch"
        raise InputError(f"images must be {wanted}, got shape {tuple(images.shape)}; {remedy}.")
    if images.ndim == 4:
        check_layout(images)
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
