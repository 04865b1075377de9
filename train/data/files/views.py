"""How image files are cropped and resized: the views of torchvision's reference training, for image and mask alike."""

from collections.abc import Callable
from functools import lru_cache, partial

import torch
from torch import Tensor
from torchvision.transforms import v2

View = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Takes an image (3, H, W) uint8 and its object mask (1, H, W) bool, and returns both after the same geometry."""

_RESIZED_OVER_CROPPED = 256 / 224


def training_view(image_size: int) -> View:
    """A random crop of 8 to 100 % of the area, resized to `image_size`, and a flip in half of the cases.

    It draws from torch's global generator what `v2.RandomResizedCrop` and then `v2.RandomHorizontalFlip` would draw.
    """
    return partial(_crop_at_random, v2.RandomResizedCrop(image_size))


def evaluation_view(image_size: int) -> View:
    """The shorter side resized to 256/224 of `image_size`, then the square of that size at the centre."""
    return partial(_cut_centre, image_size)


def shrinking_view(shorter_side: int) -> View:
    """The shorter side resized to `shorter_side` by the filter of `evaluation_view`, nothing cropped."""
    return partial(_resize, shorter_side)


def _resized(image_size: int) -> int:
    return round(image_size * _RESIZED_OVER_CROPPED)


def _cut_centre(image_size: int, image: Tensor, object_mask: Tensor) -> tuple[Tensor, Tensor]:
    seen, seen_mask = (
        v2.functional.center_crop(whole, [image_size, image_size])
        for whole in _resize(_resized(image_size), image, object_mask)
    )
    return seen, seen_mask


def _resize(shorter_side: int, image: Tensor, object_mask: Tensor) -> tuple[Tensor, Tensor]:
    """By the functions beneath the transforms, which takes four fifths of their time."""
    seen: Tensor = v2.functional.resize(image, [shorter_side], antialias=True)
    (_, height, width), (_, seen_height, seen_width) = image.shape, seen.shape
    rows, columns = _nearest(height, seen_height), _nearest(width, seen_width)
    return seen, object_mask.index_select(1, rows).index_select(2, columns)


def _crop_at_random(crop: v2.RandomResizedCrop, image: Tensor, object_mask: Tensor) -> tuple[Tensor, Tensor]:
    """By the functions beneath the transforms, which takes half of their time."""
    box = crop.make_params([image])
    seen: Tensor = v2.functional.resized_crop(image, **box, size=crop.size, antialias=True)
    height, width = crop.size
    rows = box["top"] + _nearest(box["height"], height)
    columns = box["left"] + _nearest(box["width"], width)
    if torch.rand(1) < 0.5:
        seen, columns = seen.flip(-1), columns.flip(-1)
    return seen, object_mask.index_select(1, rows).index_select(2, columns)


@lru_cache(maxsize=4096)
def _nearest(length: int, resized: int) -> Tensor:
    """(resized,) int64: which of `length` pixels each pixel shows after resizing to the nearest, as torch resizes."""
    scale = torch.tensor(length, dtype=torch.float32) / resized
    return (torch.arange(resized) * scale).long().clamp_(max=length - 1)
