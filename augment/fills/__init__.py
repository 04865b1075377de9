"""Fills: what is drawn into hidden pixels, in pixel space [0, 1], before normalisation."""

from maskrobust.augment.fills.apply import FILLS, LOOKS_INTO_HOLE, FillName, apply_fill
from maskrobust.augment.fills.blur import fill_blur
from maskrobust.augment.fills.colours import check_mean, fill_black, fill_image_mean, fill_mean, fill_random_colour
from maskrobust.augment.fills.inpainting import fill_inpainting
from maskrobust.augment.fills.linear_imputation import fill_linear_imputation
from maskrobust.augment.fills.mixing import draw_partners, mix_images, own_weight
from maskrobust.augment.fills.noise import fill_gaussian_noise, fill_uniform_noise

__all__ = [
    "FILLS",
    "LOOKS_INTO_HOLE",
    "FillName",
    "apply_fill",
    "check_mean",
    "draw_partners",
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
