"""The augmentation policy: whether a training image is masked, with which hole and which fill."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from augment.families import MaskFamily
from augment.fills import FILLS, FillName, apply_fill
from augment.random import fold_in, uniform

IMAGENET_MEAN = (0.485, 0.456, 0.406)


@dataclass(frozen=True)
class RandomMasking:
    """Mask each image with some probability; give back the filled images and where they may be seen.

    Attributes:
        family: draws the hole, for example ``functools.partial(patches, hidden_fraction=(0.1, 0.9))``.
        fill: drawn into hidden pixels.
        probability: chance in [0, 1] that an image is masked at all.
        mean: colour in [0, 1] of the fill "mean", one value for each channel.
    """

    family: MaskFamily
    fill: FillName = "black"
    probability: float = 1.0
    mean: Sequence[float] = IMAGENET_MEAN

    def __post_init__(self) -> None:
        if not 0.0 <= self.probability <= 1.0:
            raise ValueError(f"probability must lie in [0, 1], got {self.probability}.")
        if self.fill not in FILLS:
            raise ValueError(f"fill must be one of {', '.join(FILLS)}, got '{self.fill}'.")

    def __call__(self, images: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Mask a batch.

        Args:
            images: (B, C, H, W) float in [0, 1].
            keys: (B,) int64 keys on the device of `images`; see `augment.random`.

        Returns:
            Filled images (B, C, H, W) and `visible` (B, 1, H, W) bool, all True where an image was not masked.
        """
        visible = self.draw_visible(keys, images.shape[2], images.shape[3])
        return apply_fill(self.fill, images, visible, keys=fold_in(keys, 2), mean=self.mean), visible

    def draw_visible(self, keys: Tensor, height: int, width: int) -> Tensor:
        """Only the holes: `visible` (B, 1, height, width) bool for the same keys as in a call."""
        untouched = uniform(fold_in(keys, 0)) >= self.probability
        return torch.logical_or(self.family(fold_in(keys, 1), height, width), untouched[:, None, None, None])
