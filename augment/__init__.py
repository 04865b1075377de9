"""Input space: mask families, fills and the augmentation policy. Imports nothing else of maskrobust."""

from augment.batch import Batch, check_visible
from augment.families import (
    CompanionBlobs,
    MaskFamily,
    SilhouetteBank,
    companion_blobs,
    enclosing_circles,
    patches,
    rectangles,
    silhouettes,
)
from augment.fills import FILLS, FillName, apply_fill, fill_black, fill_mean, fill_random_colour
from augment.policy import RandomMasking
from augment.random import fold_in, random_keys, sample_keys, uniform

__all__ = [
    "FILLS",
    "Batch",
    "CompanionBlobs",
    "FillName",
    "MaskFamily",
    "RandomMasking",
    "SilhouetteBank",
    "apply_fill",
    "check_visible",
    "companion_blobs",
    "enclosing_circles",
    "fill_black",
    "fill_mean",
    "fill_random_colour",
    "fold_in",
    "patches",
    "random_keys",
    "rectangles",
    "sample_keys",
    "silhouettes",
    "uniform",
]
