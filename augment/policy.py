"""The augmentation policy: whether a training image is masked, with which hole and which fill."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from maskrobust.augment.batch import Batch
from maskrobust.augment.families import MaskFamily
from maskrobust.augment.fills import FILLS, FillName, apply_fill, check_mean, draw_partners, mix_images, own_weight
from maskrobust.augment.random import choose, fold_in, uniform
from maskrobust.errors import InputError

IMAGENET_MEAN = (0.485, 0.456, 0.406)

TrainingFillName = FillName | Literal["other_image"]
TRAINING_FILLS: tuple[TrainingFillName, ...] = (*FILLS, *get_args(Literal["other_image"]))
"""The fills by name, and Patch Mixing, which no evaluation uses because it depends on the batch."""


class MaskedImages(NamedTuple):
    """A batch as the augmentation shows it.

    Attributes:
        images: (B, C, H, W) with filled holes.
        visible: (B, 1, H, W) bool, all True where an image was not masked.
        partners: (B,) int64, position in the batch of the image that fills the hole; the image itself where none does.
        own_weight: (B,) float32, how much an image's own label counts against its partner's; 1 where it has none.
    """

    images: Tensor
    visible: Tensor
    partners: Tensor
    own_weight: Tensor


@dataclass(frozen=True)
class RandomMasking:
    """Mask each image with some probability; give back the filled images and where they may be seen.

    Attributes:
        family: draws the hole, for example ``build_family("patches")``, or a `mixture` of several.
        fill: drawn into hidden pixels, one of `TRAINING_FILLS`; or several with their weights, from which each image
            draws its own.
        probability: chance in [0, 1] that an image is masked at all.
        mean: colour in [0, 1] of the fill "mean", one value for each channel.
    """

    family: MaskFamily
    fill: TrainingFillName | Mapping[TrainingFillName, float] = "black"
    probability: float = 1.0
    mean: Sequence[float] = IMAGENET_MEAN

    def __post_init__(self) -> None:
        if not 0.0 <= self.probability <= 1.0:
            raise InputError(f"probability must lie in [0, 1], got {self.probability}.")
        unknown = [name for name in self._weights if name not in TRAINING_FILLS]
        if unknown:
            raise InputError(f"fill must be one of {', '.join(TRAINING_FILLS)}, got '{unknown[0]}'; name one of these.")
        check_mean(self.mean)
        choose(torch.zeros(1, dtype=torch.int64), list(self._weights.values()))

    def __call__(self, keys: Tensor, batch: Batch) -> MaskedImages:
        """Mask a batch.

        An image's hole and fill depend on its key and on the image alone, but for "other_image": an image that is to
        show another one and has none beside it is not masked.

        Args:
            keys: (B,) int64 keys on the device of the images; see `maskrobust.augment.random`.
            batch: images (B, C, H, W) float in [0, 1], with what the family needs to know of them.
        """
        visible = self.draw_visible(keys, batch)
        chosen = choose(fold_in(keys, 3), list(self._weights.values()))
        fill_keys = fold_in(keys, 2)
        itself = torch.arange(len(keys), device=keys.device)
        if "other_image" not in self._weights:
            images = self._fill(batch.images, visible, fill_keys, chosen)
            return MaskedImages(images, visible, itself, torch.ones(len(keys), device=keys.device))
        to_mix, others = chosen == list(self._weights).index("other_image"), draw_partners(fill_keys)
        visible = visible | (to_mix & (others == itself))[:, None, None, None]
        is_mixed = to_mix & ~visible.flatten(1).all(dim=1)
        partners = torch.where(is_mixed, others, itself)
        images = self._fill(mix_images(batch.images, visible, partners), visible, fill_keys, chosen)
        return MaskedImages(images, visible, partners, own_weight(visible).where(partners != itself, 1.0))

    def draw_visible(self, keys: Tensor, batch: Batch) -> Tensor:
        """Only the holes: `visible` (B, 1, H, W) bool for the same keys as in a call."""
        if self.probability == 1:
            return self.family(fold_in(keys, 1), batch)
        rows = (uniform(fold_in(keys, 0)) < self.probability).nonzero().squeeze(1)
        visible = torch.ones(len(keys), 1, *batch.images.shape[2:], dtype=torch.bool, device=keys.device)
        if len(rows):
            visible[rows] = self.family(fold_in(keys, 1)[rows], Batch(*(tensor[rows] for tensor in batch)))
        return visible

    def _fill(self, images: Tensor, visible: Tensor, keys: Tensor, chosen: Tensor) -> Tensor:
        """Draw the fills by name; those that chose "other_image" are mixed already."""
        if len(self._weights) == 1:  # nothing to sort the images by
            (name,) = self._weights
            return images if name == "other_image" else apply_fill(name, images, visible, keys=keys, mean=self.mean)
        filled = images.clone()
        for position, name in enumerate(self._weights):
            rows = (chosen == position).nonzero().squeeze(1)
            if name != "other_image" and len(rows):
                filled[rows] = apply_fill(name, images[rows], visible[rows], keys=keys[rows], mean=self.mean)
        return filled

    @property
    def _weights(self) -> Mapping[TrainingFillName, float]:
        return self.fill if isinstance(self.fill, Mapping) else {self.fill: 1.0}
