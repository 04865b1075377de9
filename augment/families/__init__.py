"""Mask families: how `visible` is drawn. Batched, on the device of the keys, one independent mask for each key."""

from maskrobust.augment.families.fraction import (
    check_hidden_fraction as check_hidden_fraction,
    draw_hidden_fraction as draw_hidden_fraction,
)
from maskrobust.augment.families.registry import (
    FAMILIES as FAMILIES,
    FamilyName as FamilyName,
    MaskFamily as MaskFamily,
    build_family as build_family,
    family_needs as family_needs,
    mask_family as mask_family,
    mixture as mixture,
    read_families as read_families,
)
from maskrobust.augment.families.segments import (
    hide_in_order as hide_in_order,
    hide_segments as hide_segments,
    patch_segments as patch_segments,
    random_order as random_order,
    segment_sums as segment_sums,
)
from maskrobust.augment.families.shapes.bank import SilhouetteBank as SilhouetteBank
from maskrobust.augment.families.shapes.companions import (
    CompanionBlobs as CompanionBlobs,
    companion_blobs as companion_blobs,
)

# Imported in the order of tables and pages.
# isort: off
from maskrobust.augment.families.patches import patches as patches
from maskrobust.augment.families.rectangles import rectangles as rectangles
from maskrobust.augment.families.irregular import blobs as blobs
from maskrobust.augment.families.superpixels import (
    SegmentationMethod as SegmentationMethod,
    quickshift as quickshift,
    segment_batch as segment_batch,
    slic as slic,
)
from maskrobust.augment.families.shapes.silhouettes import (
    other_class_silhouettes as other_class_silhouettes,
    own_class_silhouettes as own_class_silhouettes,
    silhouettes as silhouettes,
)
from maskrobust.augment.families.shapes.circles import (
    circle_geometry as circle_geometry,
    circles_of_equal_area as circles_of_equal_area,
    enclosing_circles as enclosing_circles,
)
from maskrobust.augment.families.shapes.covers import covers as covers
from maskrobust.augment.families.shapes.holes import (
    ObjectHoles as ObjectHoles,
    broken_silhouettes as broken_silhouettes,
    companions as companions,
    object_holes as object_holes,
    objects as objects,
)
# isort: on
