"""Mask families: how `visible` is drawn. Batched, on the device of the keys, one independent mask for each key."""

from maskrobust.augment.families.bank import SilhouetteBank
from maskrobust.augment.families.blobs import CompanionBlobs, companion_blobs
from maskrobust.augment.families.fraction import check_hidden_fraction, draw_hidden_fraction
from maskrobust.augment.families.registry import (
    FAMILIES,
    FamilyName,
    MaskFamily,
    build_family,
    family_needs,
    mask_family,
    mixture,
    read_families,
)
from maskrobust.augment.families.segments import (
    hide_in_order,
    hide_segments,
    patch_segments,
    random_order,
    segment_sums,
)

# Imported in the order of tables and pages.
# isort: off
from maskrobust.augment.families.patches import patches
from maskrobust.augment.families.rectangles import rectangles
from maskrobust.augment.families.irregular import blobs
from maskrobust.augment.families.superpixels import SegmentationMethod, quickshift, segment_batch, slic
from maskrobust.augment.families.silhouettes import other_class_silhouettes, own_class_silhouettes, silhouettes
from maskrobust.augment.families.circles import circle_geometry, enclosing_circles
from maskrobust.augment.families.covers import covers
from maskrobust.augment.families.objects import ObjectHoles, broken_silhouettes, companions, object_holes, objects
# isort: on

__all__ = [
    "FAMILIES",
    "CompanionBlobs",
    "FamilyName",
    "MaskFamily",
    "ObjectHoles",
    "SegmentationMethod",
    "SilhouetteBank",
    "blobs",
    "broken_silhouettes",
    "build_family",
    "check_hidden_fraction",
    "circle_geometry",
    "companion_blobs",
    "companions",
    "covers",
    "draw_hidden_fraction",
    "enclosing_circles",
    "family_needs",
    "hide_in_order",
    "hide_segments",
    "mask_family",
    "mixture",
    "object_holes",
    "objects",
    "other_class_silhouettes",
    "own_class_silhouettes",
    "patch_segments",
    "patches",
    "quickshift",
    "random_order",
    "read_families",
    "rectangles",
    "segment_batch",
    "segment_sums",
    "silhouettes",
    "slic",
]
