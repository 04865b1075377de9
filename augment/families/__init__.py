"""Mask families: how `visible` is drawn. Batched, on the device of the keys, one independent mask for each key."""

from augment.families.bank import SilhouetteBank
from augment.families.blobs import CompanionBlobs, companion_blobs
from augment.families.circles import enclosing_circles
from augment.families.fraction import check_hidden_fraction, draw_hidden_fraction
from augment.families.irregular import blobs
from augment.families.mixture import mixture
from augment.families.objects import ObjectHoles, broken_silhouettes, companions, object_holes, objects
from augment.families.patches import patches
from augment.families.rectangles import rectangles
from augment.families.registry import (
    BANK_FAMILIES,
    FAMILIES,
    OBJECT_FAMILIES,
    FamilyName,
    MaskFamily,
    build_family,
)
from augment.families.segments import hide_in_order, hide_segments, patch_segments, random_order, segment_sums
from augment.families.silhouettes import SilhouetteOf, silhouettes
from augment.families.superpixels import SegmentationMethod, segment_batch, superpixels

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
