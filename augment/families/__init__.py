"""Mask families: how `visible` is drawn. Batched, on the device of the keys, one independent mask for each key."""

from augment.families.blobs import CompanionBlobs, companion_blobs
from augment.families.circles import enclosing_circles
from augment.families.fraction import MaskFamily, check_hidden_fraction, draw_hidden_fraction
from augment.families.patches import patches
from augment.families.rectangles import rectangles
from augment.families.silhouettes import SilhouetteBank, silhouettes

__all__ = [
    "CompanionBlobs",
    "MaskFamily",
    "SilhouetteBank",
    "check_hidden_fraction",
    "companion_blobs",
    "draw_hidden_fraction",
    "enclosing_circles",
    "patches",
    "rectangles",
    "silhouettes",
]
