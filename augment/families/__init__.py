"""Mask families: how `visible` is drawn. Batched, on the device of the keys, one independent mask for each key."""

from maskrobust.augment.families.bank import SilhouetteBank
from maskrobust.augment.families.blobs import CompanionBlobs, companion_blobs
from maskrobust.augment.families.circles import enclosing_circles
from maskrobust.augment.families.fraction import check_hidden_fraction, draw_hidden_fraction
from maskrobust.augment.families.irregular import blobs
from maskrobust.augment.families.mixture import mixture
from maskrobust.augment.families.objects import ObjectHoles, broken_silhouettes, companions, object_holes, objects
from maskrobust.augment.families.patches import patches
from maskrobust.augment.families.rectangles import rectangles
from maskrobust.augment.families.registry import (
    BANK_FAMILIES,
    FAMILIES,
    OBJECT_FAMILIES,
    FamilyName,
    MaskFamily,
    build_family,
)
from maskrobust.augment.families.segments import (
    hide_in_order,
    hide_segments,
    patch_segments,
    random_order,
    segment_sums,
)
from maskrobust.augment.families.silhouettes import SilhouetteOf, silhouettes
from maskrobust.augment.families.superpixels import SegmentationMethod, segment_batch, superpixels

__all__ = [
    "BANK_FAMILIES",
    "FAMILIES",
    "OBJECT_FAMILIES",
    "CompanionBlobs",
    "FamilyName",
    "MaskFamily",
    "ObjectHoles",
    "SegmentationMethod",
    "SilhouetteBank",
    "SilhouetteOf",
    "blobs",
    "broken_silhouettes",
    "build_family",
    "check_hidden_fraction",
    "companion_blobs",
    "companions",
    "draw_hidden_fraction",
    "enclosing_circles",
    "hide_in_order",
    "hide_segments",
    "mixture",
    "object_holes",
    "objects",
    "patch_segments",
    "patches",
    "random_order",
    "rectangles",
    "segment_batch",
    "segment_sums",
    "silhouettes",
    "superpixels",
]
