"""Fills: what is drawn into hidden pixels, in pixel space [0, 1], before normalisation."""

from maskrobust.augment.fills.drawing import draw
from maskrobust.augment.fills.mixing import draw_partners, mix_images, own_weight
from maskrobust.augment.fills.registry import FILLS, FillName, apply_fill, fill

# Imported in the order of tables and pages.
# isort: off
from maskrobust.augment.fills.colours import check_mean, fill_black, fill_image_mean, fill_mean, fill_random_colour
from maskrobust.augment.fills.noise import fill_gaussian_noise, fill_uniform_noise
from maskrobust.augment.fills.blur import fill_blur
from maskrobust.augment.fills.linear_imputation import fill_linear_imputation
from maskrobust.augment.fills.inpainting import fill_inpainting
# isort: on

__all__ = [
    "FILLS",
    "FillName",
    "apply_fill",
    "check_mean",
    "draw",
    "draw_partners",
    "fill",
    "fill_black",
    "fill_blur",
    "fill_gaussian_noise",
    "fill_image_mean",
    "fill_inpainting",
    "fill_linear_imputation",
    "fill_mean",
    "fill_random_colour",
    "fill_uniform_noise",
    "mix_images",
    "own_weight",
]
