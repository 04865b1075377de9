"""Which pixels each measure hides: a function of (seed, sample id) and the silhouette bank alone."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from augment import Batch, broken_silhouettes, fold_in, objects, sample_keys, uniform
from augment.families.blobs import companion_blobs
from augment.families.circles import enclosing_circles
from augment.families.patches import patches
from lm_modules.reliance.swaps import SwapIndex, SwapTriples, swap_triples


class ObjectHoles(NamedTuple):
    """The two holes of measure 1. Both hide the whole object and the same number of pixels.

    Attributes:
        silhouette_visible: (B, 1, H, W) bool, hides the object along its outline, and a companion blob elsewhere.
        circle_visible: (B, 1, H, W) bool, hides the object's smallest enclosing circle.
        valid: (B,) bool, False where there is no object or no room for the blob; nothing is hidden there.
    """

    silhouette_visible: Tensor
    circle_visible: Tensor
    valid: Tensor


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
    holes = object_holes(fold_in(keys, 1), batch.object_mask)
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
        fill_keys=fold_in(keys, 0),
    )


def object_holes(keys: Tensor, object_mask: Tensor) -> ObjectHoles:
    """Hide each object along its outline with a blob elsewhere, and by its enclosing circle.

    With o the object and c its enclosing disc, the blob has |c| - |o| pixels: both holes hide |c| pixels.

    Args:
        keys: (B,) int64 keys.
        object_mask: (B, 1, H, W) bool, True on the object.

    Returns:
        Both holes, and where they are valid.
    """
    circles = enclosing_circles(object_mask)
    blobs, fits = companion_blobs(keys, object_mask, (circles & ~object_mask).sum(dim=(1, 2, 3)))
    valid = fits & object_mask.flatten(1).any(dim=1)
    nothing_hidden = ~valid[:, None, None, None]
    return ObjectHoles(~(object_mask | blobs) | nothing_hidden, ~circles | nothing_hidden, valid)
