"""Which pixels each measure hides: a function of (seed, sample id) and the silhouette bank alone."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from augment import (
    Batch,
    ObjectHoles,
    broken_silhouettes,
    fold_in,
    object_holes,
    objects,
    patches,
    sample_keys,
    uniform,
)
from lm_modules.reliance.swaps import SwapIndex, SwapTriples, swap_triples

FILL_STREAM, HOLE_STREAM = 0, 1
"""Of a sample's key: what fills are drawn from, and what the holes of measure 1 are."""


class Conditions(NamedTuple):
    """Everything that is hidden from a batch, and the numbers that predictors may draw their fills from.

    Attributes:
        holes: silhouette and circle.
        whole_visible: (B, 1, H, W) bool, hides the object along its outline and nothing else.
        broken_visible: (B, 1, H, W) bool, hides the same mask broken; see `augment.broken_silhouettes`. Neither hides
            anything where the holes are not valid.
        swaps: other objects' silhouettes.
        patches_visible: one (B, 1, H, W) bool for each hidden fraction.
        redrawn_images: (B, C, H, W), the images with uniform noise in [0, 1) in the silhouette hole.
        fill_keys: (B,) int64, the same for every condition, so that only the hole differs between them.
    """

    holes: ObjectHoles
    whole_visible: Tensor
    broken_visible: Tensor
    swaps: SwapTriples
    patches_visible: tuple[Tensor, ...]
    redrawn_images: Tensor
    fill_keys: Tensor


def draw_conditions(
    batch: Batch, index: SwapIndex, *, seed: int, hidden_fractions: Sequence[float], patch_size: int
) -> Conditions:
    """Draw all conditions of a batch.

    Args:
        batch: annotated images.
        index: the silhouette bank, prepared by `swap_index`, on the batch's device and of its image size.
        seed: any integer; with the sample ids it decides every draw.
        hidden_fractions: shares in [0, 1] of patches to hide. Smaller holes lie within larger ones.
        patch_size: side of a patch in pixels.

    Returns:
        The conditions, on the batch's device.

    Raises:
        ValueError: the bank's masks have another size than the images, or a fraction leaves [0, 1].
    """
    height, width = batch.images.shape[2:]
    keys = sample_keys(seed, batch.ids)
    holes = object_holes(fold_in(keys, HOLE_STREAM), batch.object_mask)
    nothing_hidden = ~holes.valid[:, None, None, None]
    noise = uniform(fold_in(keys, 4), *batch.images.shape[1:]).to(batch.images.dtype)
    return Conditions(
        holes=holes,
        whole_visible=objects(batch.object_mask) | nothing_hidden,
        broken_visible=broken_silhouettes(batch.object_mask) | nothing_hidden,
        swaps=swap_triples(fold_in(keys, 2), batch.labels, height, width, index=index),
        patches_visible=tuple(
            patches(fold_in(keys, 3), height, width, hidden_fraction=(fraction, fraction), patch_size=patch_size)
            for fraction in hidden_fractions
        ),
        redrawn_images=torch.where(holes.silhouette_visible, batch.images, noise),
        fill_keys=fold_in(keys, FILL_STREAM),
    )
