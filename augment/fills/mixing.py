"""Patch Mixing: the hole shows another image of the batch.

Lee et al., "Hardwiring ViT Patch Selectivity into CNNs using Patch Mixing" (arXiv 2306.17835). It depends on the
batch, so it is no fill by name.
"""

import torch
from torch import Tensor

from maskrobust.augment.fills.drawing import check_pixels, draw
from maskrobust.augment.random import uniform


def draw_partners(keys: Tensor) -> Tensor:
    """A random partner within the batch for each of its images, never the image itself where there is another.

    Image i gets (i + 1 + floor((B - 1) u_i)) mod B, u_i uniform in [0, 1) from its key: uniform over the other images.

    Args:
        keys: (B,) int64 keys.

    Returns:
        (B,) int64 positions in the batch. Several images may share a partner.
    """
    batch_size = keys.shape[0]
    steps = (uniform(keys).double() * (batch_size - 1)).long() + 1
    return (torch.arange(batch_size, device=keys.device) + steps) % max(batch_size, 1)


def mix_images(images: Tensor, visible: Tensor, partners: Tensor) -> Tensor:
    """Show the partner's image in the hole, at the same place.

    Args:
        images: (B, C, H, W) float in [0, 1] or uint8 in [0, 255].
        visible: (B, 1, H, W) bool.
        partners: (B,) int64 positions in the batch; see `draw_partners`.

    Returns:
        (B, C, H, W), dtype of `images`; visible pixels unchanged bit for bit. What the partner shows carries no
        gradient.

    Raises:
        TypeError, InputError: `images` cannot be filled or `visible` does not fit them; see `check_pixels`.
    """
    check_pixels(images, visible)
    return draw(images, visible, images.detach()[partners])


def own_weight(visible: Tensor) -> Tensor:
    """The fraction of an image that is still its own, for mixing labels: own_weight own + (1 - own_weight) partner's.

    Args:
        visible: (B, 1, H, W) bool.

    Returns:
        (B,) float32 in [0, 1], the visible fraction of the pixels.
    """
    return visible.float().mean(dim=(1, 2, 3))
