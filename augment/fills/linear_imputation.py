"""Noisy linear imputation (ROAD): the hole is continued smoothly from its surroundings."""

from collections.abc import Sequence

from torch import Tensor

from maskrobust.augment.fills.colours import visible_mean
from maskrobust.augment.fills.drawing import check_pixels, draw, from_pixels, to_pixels
from maskrobust.augment.fills.multigrid import impute
from maskrobust.augment.fills.noise import gaussian
from maskrobust.augment.fills.registry import fill

IMPUTATION_NOISE_STD = 0.01


@fill("linear_imputation")
def fill_linear_imputation(images: Tensor, visible: Tensor, keys: Tensor, mean: Sequence[float]) -> Tensor:
    """Make every hidden pixel the weighted mean of its eight neighbours, plus a little noise.

    x_i = sum_j w_ij x_j / sum_j w_ij over the neighbours j inside the image, hidden or visible, with w = 1/6 for direct
    and 1/12 for diagonal neighbours; what is drawn is clip(x + 0.01 z, 0, 1), z standard normal, independent for every
    pixel and channel. Rong et al., "A Consistent and Efficient Evaluation Strategy for Attribution Methods" (ICML
    2022), "noisy linear imputation"; weights at the border of the image, and noise added to the solution, as in the
    paper's code. The equations are solved to 1e-4, in float32 for any dtype. Where nothing is visible, x is the data
    set's mean colour.

    Args:
        images: (B, C, H, W) float in [0, 1] or uint8 in [0, 255]. Visible pixels must be finite, or the hole of their
            image is not.
        visible: (B, 1, H, W) bool.
        keys: (B,) int64 keys, for the noise.
        mean: the dataset's mean colour, one value in [0, 1] for each of the C channels.

    Returns:
        (B, C, H, W), dtype of `images`; visible pixels unchanged bit for bit. What is drawn depends on visible pixels
        alone and carries no gradient.

    Raises:
        TypeError, InputError: `images` cannot be filled or `visible` does not fit them; see `check_pixels`.
        InputError: `mean` has not one value for each channel.
    """
    check_pixels(images, visible)
    numbers, start = from_pixels(images.detach()), visible_mean(images, visible, mean)
    drawn = impute(numbers, visible, start).add_(gaussian(keys, *images.shape[1:]), alpha=IMPUTATION_NOISE_STD)
    return draw(images, visible, to_pixels(drawn.clamp_(0, 1), images.dtype))
