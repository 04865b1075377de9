"""Holes in images: mask families, fills, and the masking policy of trainings. Imports nothing else of maskrobust."""

from types import ModuleType as _ModuleType

from maskrobust.augment.batch import (
    Batch as Batch,
    check_object_mask as check_object_mask,
    check_visible as check_visible,
)
from maskrobust.augment.families.bank import HoleBank as HoleBank, SilhouetteBank as SilhouetteBank
from maskrobust.augment.families.mask_family import (
    FAMILIES as FAMILIES,
    FamilyName as FamilyName,
    MaskFamily as MaskFamily,
    build_family as build_family,
    draw_hidden_fraction as draw_hidden_fraction,
    family_needs as family_needs,
    mask_family as mask_family,
    mixture as mixture,
    read_families as read_families,
)
from maskrobust.augment.fills.drawing import (
    FILLS as FILLS,
    FillName as FillName,
    apply_fill as apply_fill,
    draw as draw,
    fill as fill,
)
from maskrobust.augment.padding import pad_batch as pad_batch, pad_collate as pad_collate
from maskrobust.augment.policy import (
    OTHER_IMAGE as OTHER_IMAGE,
    MaskedImages as MaskedImages,
    RandomMasking as RandomMasking,
    draw_partners as draw_partners,
    mix_images as mix_images,
    own_weight as own_weight,
    read_fills as read_fills,
)
from maskrobust.augment.random import (
    choose as choose,
    fold_in as fold_in,
    sample_keys as sample_keys,
    uniform as uniform,
)
from maskrobust.augment.registry import Choice as Choice, read_choice as read_choice
from maskrobust.augment.visible_pixels import visible_from as visible_from

# Imported in the order of tables and pages.
# isort: off
from maskrobust.augment.families.patches import patches as patches
from maskrobust.augment.families.rectangles import rectangles as rectangles
from maskrobust.augment.families.irregular import blobs as blobs
from maskrobust.augment.families.superpixels import (
    hide_in_order as hide_in_order,
    patch_segments as patch_segments,
    quickshift as quickshift,
    random_order as random_order,
    segment_batch as segment_batch,
    segment_sums as segment_sums,
    slic as slic,
)
from maskrobust.augment.families.holes import (
    ObjectHoles as ObjectHoles,
    circle_geometry as circle_geometry,
    circles_of_equal_area as circles_of_equal_area,
    companion_blobs as companion_blobs,
    enclosing_circles as enclosing_circles,
    object_holes as object_holes,
    objects as objects,
    silhouettes as silhouettes,
)
from maskrobust.augment.fills.colours import (
    check_mean as check_mean,
    fill_black as fill_black,
    fill_image_mean as fill_image_mean,
    fill_mean as fill_mean,
    fill_random_colour as fill_random_colour,
)
from maskrobust.augment.fills.noise import fill_uniform_noise as fill_uniform_noise
from maskrobust.augment.fills.blur import fill_blur as fill_blur
from maskrobust.augment.fills.linear_imputation import fill_linear_imputation as fill_linear_imputation
from maskrobust.augment.fills.inpainting import fill_inpainting as fill_inpainting
from maskrobust.augment.fills.exemplar import fill_exemplar as fill_exemplar
# isort: on

# Without the files, one of which has the name of the standard library's `random`.
__all__ = [_name for _name, _each in globals().items() if _name[0] != "_" and not isinstance(_each, _ModuleType)]
