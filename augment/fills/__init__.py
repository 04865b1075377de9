"""Fills: what is drawn into hidden pixels, in pixel space [0, 1], before normalisation."""

from maskrobust.augment.fills.drawing import draw as draw
from maskrobust.augment.fills.mixing import (
    draw_partners as draw_partners,
    mix_images as mix_images,
    own_weight as own_weight,
)
from maskrobust.augment.fills.registry import (
    FILLS as FILLS,
    FillName as FillName,
    apply_fill as apply_fill,
    fill as fill,
)

# Imported in the order of tables and pages.
# isort: off
from maskrobust.augment.fills.colours import (
    check_mean as check_mean,
    fill_black as fill_black,
    fill_image_mean as fill_image_mean,
    fill_mean as fill_mean,
    fill_random_colour as fill_random_colour,
)
from maskrobust.augment.fills.noise import (
    fill_gaussian_noise as fill_gaussian_noise,
    fill_uniform_noise as fill_uniform_noise,
)
from maskrobust.augment.fills.blur import fill_blur as fill_blur
from maskrobust.augment.fills.linear_imputation import fill_linear_imputation as fill_linear_imputation
from maskrobust.augment.fills.inpainting import fill_inpainting as fill_inpainting
from maskrobust.augment.fills.exemplar import fill_exemplar as fill_exemplar
# isort: on
