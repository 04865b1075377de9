"""How image files are cropped and resized: the views of torchvision's reference training."""

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

_RESIZED_OVER_CROPPED = 256 / 224


def training_view(image_size: int) -> v2.Transform:
    """A random crop of 8 to 100 % of the area, resized to `image_size`, and a flip in half of the cases."""
    return v2.Compose([v2.RandomResizedCrop(image_size), v2.RandomHorizontalFlip()])


def evaluation_view(image_size: int) -> v2.Transform:
    """The shorter side resized to 256/224 of `image_size`, then the square of that size at the centre."""
    return v2.Compose([v2.Resize(round(image_size * _RESIZED_OVER_CROPPED)), v2.CenterCrop(image_size)])


def jointly(view: v2.Transform, image: Tensor, object_mask: Tensor) -> tuple[Tensor, Tensor]:
    """An image and its object mask through the same geometry, the mask resized to the nearest pixel.

    Args:
        view: geometry; what is random in it is drawn from torch's global generator.
        image: (3, H, W) uint8.
        object_mask: (1, H, W) bool.

    Returns:
        (3, h, w) uint8 and (1, h, w) bool.
    """
    seen, seen_mask = view(tv_tensors.Image(image), tv_tensors.Mask(object_mask.to(torch.uint8)))
    return seen.as_subclass(Tensor), seen_mask.as_subclass(Tensor).to(torch.bool)
