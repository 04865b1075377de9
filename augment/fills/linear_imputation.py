"""The fill `linear_imputation` (ROAD): continues the surroundings smoothly into the hole, with a little noise."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskrobust.augment.fills.colours import visible_mean
from maskrobust.augment.fills.drawing import check_pixels, draw, fill, from_pixels, to_pixels
from maskrobust.augment.fills.noise import gaussian
from maskrobust.augment.threads import of_each
from maskrobust.errors import library_needed

IMPUTATION_NOISE_STD = 0.01


@fill("linear_imputation", on_cpu=True)
def fill_linear_imputation(images: Tensor, visible: Tensor, keys: Tensor, mean: Sequence[float]) -> Tensor:
    """Make every hidden pixel the weighted mean of its eight neighbours, plus a little noise.

    x_i = sum_j w_ij x_j / sum_j w_ij over the neighbours j inside the image, hidden or visible, with w = 1/6 for direct
    and 1/12 for diagonal neighbours; what is drawn is clip(x + 0.01 z, 0, 1), z standard normal, independent for every
    pixel and channel. Rong et al., "A Consistent and Efficient Evaluation Strategy for Attribution Methods" (ICML
    2022), "noisy linear imputation"; weights at the border of the image, and noise added to the solution, as in the
    paper's code. Where nothing is visible, x is the data set's mean colour. Computed by scipy on the CPU, in float64.

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


@torch.no_grad()
def impute(numbers: Tensor, visible: Tensor, start: Tensor) -> Tensor:
    """Replace every hidden pixel by the weighted mean of its eight neighbours.

    Args:
        numbers: (B, C, H, W) float; hidden ones are not read.
        visible: (B, 1, H, W) bool.
        start: (B, C, 1, 1), the result where nothing is visible; where it is not finite, the result is not either.

    Returns:
        (B, C, H, W) float32.
    """
    images = (numbers.double() - start.double()).cpu().numpy()
    laplacian = _laplacian(*visible.shape[2:])
    of_each(partial(_solve, laplacian), images, visible[:, 0].cpu().numpy())
    return (torch.from_numpy(images).to(numbers.device) + start).float()


def _laplacian(height: int, width: int) -> Any:
    """12 times (sum of weights - neighbours), (H W, H W); [1 2 1] x [1 2 1] has 12 times the weights around a 4."""
    with library_needed():
        from scipy import sparse

    down, across = (sparse.diags_array([1.0, 2.0, 1.0], offsets=[-1, 0, 1], shape=(n, n)) for n in (height, width))
    both = sparse.kron(down, across, format="csr")
    return sparse.diags_array(both.sum(axis=1), format="csr") - both


def _solve(laplacian: Any, image: NDArray[np.float64], visible: NDArray[np.bool_]) -> None:
    """Solve for the hidden pixels of (C, H, W) in place; 0 where nothing is visible."""
    from scipy.sparse.linalg import splu

    pixels, hidden = image.reshape(len(image), -1), np.flatnonzero(~visible)
    pixels[:, hidden] = 0
    if 0 < len(hidden) < visible.size:
        rows = laplacian[hidden]
        symmetric = {"permc_spec": "MMD_AT_PLUS_A", "diag_pivot_thresh": 0.0, "options": {"SymmetricMode": True}}
        pixels[:, hidden] = -splu(rows[:, hidden].tocsc(), **symmetric).solve(rows @ pixels.T).T
