"""MixUp and CutMix of a training batch, before holes are drawn, for images of which not every pixel holds data."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from maskrobust.augment import Batch

MixName = Literal["none", "mixup", "cutmix"]

_ALPHAS = {"mixup": 0.2, "cutmix": 1.0}


def mix(batch: Batch, how: MixName, key: int) -> tuple[Batch, Tensor, Tensor]:
    """Mix each image of a batch with another one, as a function of `key` alone.

    The weight w is drawn once for a batch. "mixup" (Zhang et al., ICLR 2018), w from Beta(0.2, 0.2): w own + (1 - w)
    other, visible where both are. "cutmix" (Yun et al., ICCV 2019), w from Beta(1, 1): a box of 1 - w of the area shows
    the other image with its visible pixels and its object. Two images that share no visible pixel stay as they are.

    Args:
        batch: B images in [0, 1].
        how: "mixup" or "cutmix"; "none" returns the batch.
        key: an integer of 64 bits, of a step and a process.

    Returns:
        The mixed batch; the partners (B,) int64; and the weight of the own label (B,) in [0, 1], under CutMix the
        fraction of the visible pixels that are the image's own.
    """
    (number, _, height, width), device = batch.images.shape, batch.images.device
    everyone, ones = torch.arange(number, device=device), torch.ones(number, device=device)
    if how == "none":
        return batch, everyone, ones
    draws = np.random.Generator(np.random.Philox(key & (2**64 - 1)))
    own = float(draws.beta(_ALPHAS[how], _ALPHAS[how]))
    partners = torch.from_numpy(draws.permutation(number)).to(device, non_blocking=True)
    other = batch.select(partners)
    if how == "mixup":
        images, known = torch.lerp(other.images, batch.images, own), batch.known & other.known
        objects, weight = batch.object_mask | other.object_mask, ones * own
    else:
        box = _box(height, width, own, draws).to(device, non_blocking=True)
        images = torch.where(box, other.images, batch.images)
        known, objects = (
            torch.where(box, *pair) for pair in ((other.known, batch.known), (other.object_mask, batch.object_mask))
        )
        weight = (known & ~box).flatten(1).sum(dim=1) / known.flatten(1).sum(dim=1).clamp(min=1)
    apart = ~known.flatten(1).any(dim=1)
    keep = apart[:, None, None, None]
    mixed = batch._replace(
        images=torch.where(keep, batch.images, images * known),
        object_mask=torch.where(keep, batch.object_mask, objects & known),
        visible=None if batch.visible is None else torch.where(keep, batch.visible, known),
    )
    return mixed, torch.where(apart, everyone, partners), weight.masked_fill(apart, 1.0)


def _box(height: int, width: int, own: float, draws: np.random.Generator) -> Tensor:
    """(1, 1, H, W) bool, True in a box of the image's proportions around a random pixel, cut off at the border."""
    cut = (1 - own) ** 0.5 / 2
    y, x, half_y, half_x = draws.integers(height), draws.integers(width), round(height * cut), round(width * cut)
    box = torch.zeros(1, 1, height, width, dtype=torch.bool)
    box[..., max(y - half_y, 0) : y + half_y, max(x - half_x, 0) : x + half_x] = True
    return box
