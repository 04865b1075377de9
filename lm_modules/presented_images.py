"""What a network sees of a training batch: behind holes that are filled, or that go through the network."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from maskrobust.augment import Batch, RandomMasking, fold_in, uniform
from maskrobust.lm_modules.training_masks import TrainingMasking

Learner = Callable[[Tensor, Tensor | None], Tensor]
"""(images (B, C, H, W) in [0, 1], visible (B, 1, H, W) bool or None) -> logits (B, num_classes)."""

_PRESENTATION_STREAM = 4  # of a sample's key; the policy draws from streams 0 to 3


class PresentedImages(NamedTuple):
    """What a network sees of a batch in training, and what it is to say.

    Attributes:
        images: (B, C, H, W).
        visible: (B, 1, H, W) bool for layer masking; None where everything is to be seen.
        partners: (B,) int64, the image of the batch whose label counts for the rest; the image itself where none.
        own_weight: (B,) float in [0, 1], weight of the image's own label.
        kept: (B, 1, H, W) bool, False in the hole, however it is presented.
        object_mask: (B, 1, H, W) bool, True on the image's object.
    """

    images: Tensor
    visible: Tensor | None
    partners: Tensor
    own_weight: Tensor
    kept: Tensor
    object_mask: Tensor

    @property
    def is_masked(self) -> Tensor:
        """(B,) bool, whether anything is hidden."""
        return ~self.kept.flatten(1).all(dim=1)

    @property
    def hides_object(self) -> Tensor:
        """(B,) bool, whether the image has an object, and the hole leaves nothing of it."""
        left = (self.object_mask & self.kept).flatten(1).any(dim=1)
        return self.object_mask.flatten(1).any(dim=1) & ~left


def present_whole(batch: Batch) -> PresentedImages:
    """A batch of which nothing is hidden."""
    everything = torch.ones_like(batch.object_mask)
    return PresentedImages(batch.images, None, *_unmixed(batch.ids), everything, batch.object_mask)


def present_masked(
    masks: RandomMasking, masking: TrainingMasking, keys: Tensor, batch: Batch, growth: float, candidate: int = 0
) -> PresentedImages:
    """A batch behind one of the holes that its keys draw.

    Args:
        masks: draws the holes and their fills.
        masking: "fill", "layer_masking", or "mixture": each image one of these two, evenly.
        keys: (B,) int64 keys.
        batch: B samples.
        growth: in [0, 1], how far the upper end of the hidden fraction has grown from the lower one.
        candidate: which of several holes that the same key draws, from 0.
    """
    if masking == "layer_masking":
        visible = masks.draw_visible(keys, batch, growth, candidate)
        return PresentedImages(batch.images, visible, *_unmixed(keys), visible, batch.object_mask)
    masked = masks(keys, batch, growth, candidate)
    if masking == "fill":
        return PresentedImages(
            masked.images, None, masked.partners, masked.own_weight, masked.visible, batch.object_mask
        )
    by_fill = uniform(fold_in(keys, _PRESENTATION_STREAM)) < 0.5
    broadcast = by_fill[:, None, None, None]
    own, whole = _unmixed(keys)
    return PresentedImages(
        torch.where(broadcast, masked.images, batch.images),
        masked.visible | broadcast,
        torch.where(by_fill, masked.partners, own),
        torch.where(by_fill, masked.own_weight, whole),
        masked.visible,
        batch.object_mask,
    )


def _unmixed(ids: Tensor) -> tuple[Tensor, Tensor]:
    """The partners and weights of (B,) images that show no other one."""
    return torch.arange(len(ids), device=ids.device), torch.ones(len(ids), device=ids.device)
