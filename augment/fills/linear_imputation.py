"""The fill `linear_imputation` (ROAD): continues the surroundings smoothly into the hole, with a little noise.

The equations are solved by multigrid-preconditioned conjugate gradients, batched, in float32.

The equations: every hidden pixel is the weighted mean of its neighbours, 1/6 for direct and 1/12 for diagonal ones,
with visible pixels given. With S the binomial filter [1 2 1] x [1 2 1] / 16, 12 times the weighted sum of the
neighbours is 16 S x - 4 x. All equations are multiplied by 12, so that their coefficients are whole numbers, and
rounding does not add up over a large hole. The matrix is symmetric and positive definite: conjugate gradients converge
for any hole, and a V-cycle is their preconditioner. A cell of a coarser level covers 2 x 2 cells and is hidden where
all of them are; it gets the sum of their residuals and hands one correction back to them, which the smoothing beside it
turns into bilinear transfer both ways. The same weights serve on every level, only stiffer towards visible cells, which
are nearer than the spacing of a coarse level says.

A "grid" below is an image of even height and width with two rows of zeros below it, (..., height + 2, width): filtered
as one tall image, a whole batch keeps its images apart.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from maskrobust.augment.fills.colours import visible_mean
from maskrobust.augment.fills.drawing import check_pixels, draw, fill, from_pixels, to_pixels
from maskrobust.augment.fills.noise import gaussian

IMPUTATION_NOISE_STD = 0.01

_SWEEP_WEIGHT = 2.5
_COARSEST_SIZE = 8
_LARGEST_CORRECTION = 3e-5
_MOST_ITERATIONS = 100
_THIN = 16
_CPU_CHUNK = 310_000
_TINY = torch.finfo(torch.float32).tiny
_BINOMIAL = np.array([1, 2, 1], np.float32)


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


class _Level(NamedTuple):
    """What one level of the hierarchy takes from `visible`: grids (B, 1, height + 2, width).

    Attributes:
        hidden: 1 at unknowns, 0 elsewhere.
        own: hidden (12 times the sum of the neighbours' weights + 4), so that A x = own x - hidden 16 S x.
        gain: hidden / own.
        gathered: hidden times the cells of the finer level that a cell covers; 8 in a thin image, whose half of a cell
            stands for a whole one.
    """

    hidden: Tensor
    own: Tensor
    gain: Tensor
    gathered: Tensor


class _Hierarchy(NamedTuple):
    """Levels from the finest to the coarsest, and the inverse (B, N, N) of the coarsest one's N equations."""

    levels: Sequence[_Level]
    inverse: Tensor


@torch.no_grad()
def impute(numbers: Tensor, visible: Tensor, start: Tensor) -> Tensor:
    """Replace every hidden pixel by the weighted mean of its eight neighbours.

    An image is done when a V-cycle corrects it by less than 3e-5 everywhere: that leaves an error below 1e-4. It then
    stays as it is, whatever the rest of the batch still needs, so that the result does not depend on it.

    Args:
        numbers: (B, C, H, W) float; hidden ones are not read.
        visible: (B, 1, H, W) bool.
        start: (B, C, 1, 1), first guess, such as the mean of what is visible; the result where nothing is. Where it is
            not finite, the result is NaN: a visible number that is not must show in it, or it spoils the whole batch.

    Returns:
        (B, C, H, W) float32, or float64 where an image is so thin that float32 would not do.
    """
    dtype = torch.float64 if min(numbers.shape[2:]) < _THIN else torch.float32
    is_finite = start.isfinite()
    start = start.to(dtype).masked_fill(~is_finite, torch.nan)
    known = draw(numbers.to(dtype) - start, visible, torch.zeros_like(start)).masked_fill_(~is_finite, 0)
    if not known.numel():
        return known
    at_once = max(1, _CPU_CHUNK // known[:1].numel()) if known.device.type == "cpu" else len(known)
    parts = zip(known.split(at_once), visible.split(at_once), strict=True)
    with torch.autocast(known.device.type, enabled=False):
        return start + torch.cat([_solve(*part) for part in parts])


def _solve(known: Tensor, visible: Tensor) -> Tensor:
    """Conjugate gradients, preconditioned by one V-cycle; every channel of every image is a system of its own.

    `known` is 0 in the hole, and the result is 0 where nothing is visible.
    """
    height, width = known.shape[2:]
    hierarchy = _build_hierarchy(visible, known.dtype)
    finest = hierarchy.levels[0]
    solution = _as_grid(known)
    residual = _binomial(solution).mul_(finest.hidden)
    direction = torch.zeros_like(solution)
    active = torch.ones_like(visible[:, :, :1, :1])
    before = torch.ones((), device=known.device)
    for _ in range(_MOST_ITERATIONS):
        correction = _cycle(hierarchy, residual)
        dims = (1, 2, 3)
        largest = torch.maximum(correction.amax(dims, keepdim=True), -correction.amin(dims, keepdim=True))
        done = active & ~(largest >= _LARGEST_CORRECTION)
        if done.any():
            solution.addcmul_(correction, done.to(solution.dtype))
        active = active & ~done
        if not active.any():
            break
        now = _dot(residual, correction)
        torch.addcmul(correction, direction, now / before, out=direction)
        before = now.clamp(min=_TINY)
        image = torch.addcmul(finest.own * direction, _binomial(direction), finest.hidden, value=-1)
        step = active * now / _dot(direction, image).clamp(min=_TINY)
        solution.addcmul_(direction, step)
        residual.addcmul_(image, step, value=-1)
    return solution[:, :, :height, :width]


def _dot(first: Tensor, second: Tensor) -> Tensor:
    """Inner products of grids, (B, C, 1, 1); row by row, so that the order does not depend on the batch."""
    return (first * second).sum(dim=3, keepdim=True).sum(dim=2, keepdim=True)


def _cycle(hierarchy: _Hierarchy, residual: Tensor, finest: int = 0) -> Tensor:
    """One symmetric V-cycle from level `finest` on: an approximation of A^-1 residual, as a grid.

    Each sweep moves the solution x to x + weight gain (residual - A x), which for the weight 1 is
    gain (residual + 16 S x): what the neighbours ask for.
    """
    level = hierarchy.levels[finest]
    if finest + 1 == len(hierarchy.levels):
        return _solve_coarsest(hierarchy.inverse, residual)
    gained = level.gain * residual
    solution = _sweep(level, gained, gained).lerp_(gained, 1 - _SWEEP_WEIGHT)
    remaining = torch.addcmul(residual, level.own, solution, value=-1).addcmul_(_binomial(solution), level.hidden)
    correction = _cycle(hierarchy, _coarsen(remaining, hierarchy.levels[finest + 1]), finest + 1)
    _add_correction(level, solution, correction)
    solution.lerp_(_sweep(level, gained, solution), _SWEEP_WEIGHT)
    return _sweep(level, gained, solution)


def _sweep(level: _Level, gained: Tensor, solution: Tensor) -> Tensor:
    around = _binomial(solution)
    return torch.addcmul(gained, around, level.gain, out=around)


def _solve_coarsest(inverse: Tensor, residual: Tensor) -> Tensor:
    solution, pixels = torch.zeros_like(residual), residual[:, :, :-2]
    solution[:, :, :-2] = (pixels.flatten(2) @ inverse).view(pixels.shape)
    return solution


def _coarsen(remaining: Tensor, coarser: _Level) -> Tensor:
    """Sums of 2 x 2 cells, 0 where a coarse cell is not hidden, as a grid."""
    return _as_grid(_halve(remaining)[:, :, :-1]).mul_(coarser.gathered)


def _add_correction(level: _Level, solution: Tensor, correction: Tensor) -> None:
    """Add each coarse cell's correction to its 2 x 2 cells where they are hidden."""
    height, width = solution.shape[2] - 2, solution.shape[3]
    wide = _double(correction)[:, :, :height, :width]
    solution[:, :, :height].addcmul_(wide, level.hidden[:, :, :height])


def _build_hierarchy(visible: Tensor, dtype: torch.dtype) -> _Hierarchy:
    """Halve the resolution until few pixels are left; a coarse cell is hidden where all of its cells are."""
    size = list(visible.shape[2:])
    inside = _as_grid(torch.ones_like(visible[:1], dtype=dtype))
    known = inside * ~visible.flatten(1).any(dim=1)[:, None, None, None] + _as_grid(visible.to(dtype))
    levels, spacing = [_build_level(known, inside, 1.0, 1.0)], 1.0
    while max(size) > _COARSEST_SIZE:
        known, inside = (_as_grid(_halve(grid)[:, :, :-1].ceil()) for grid in (known, inside))
        covered = 8.0 if min(size) == 1 else 4.0
        size, spacing = [(side + 1) // 2 for side in size], 2 * spacing
        levels.append(_build_level(known, inside, 2 * spacing / (spacing + 1), covered))
    return _Hierarchy(levels, _invert(levels[-1]))


def _build_level(known: Tensor, inside: Tensor, stiffness: float, covered: float) -> _Level:
    """A level of cells that are `known` (1), hidden, or not `inside` the image; known ones weigh `stiffness`."""
    hidden = inside - known
    weight = hidden + stiffness * known
    own = (_binomial(weight) - 4 * weight + 4) * hidden
    return _Level(hidden, own, own.reciprocal().masked_fill_(own == 0, 0), covered * hidden)


def _invert(level: _Level) -> Tensor:
    """A^-1 of a small level, 0 in the rows and columns of pixels that are not hidden: (B, N, N)."""
    hidden, own = (grid[:, 0, :-2] for grid in (level.hidden, level.own))
    down, across = (_binomial_matrix(size, own) for size in own.shape[1:])
    hidden, own = hidden.flatten(1), own.flatten(1)
    both = hidden.unsqueeze(1) * hidden.unsqueeze(2)
    inverse: Tensor = torch.linalg.inv(torch.diag_embed(own + 1 - hidden) - both * torch.kron(down, across))
    return inverse * both


def _binomial_matrix(size: int, like: Tensor) -> Tensor:
    """The filter [1 2 1] as a matrix."""
    neighbours = torch.diag(like.new_ones(size - 1), 1)
    return neighbours + torch.diag(like.new_full((size,), 2.0)) + neighbours.T


def _as_grid(images: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, height + 2, width) for the even height and width."""
    height, width = images.shape[2:]
    grid = images.new_zeros(*images.shape[:2], height + height % 2 + 2, width + width % 2)
    grid[:, :, :height, :width] = images
    return grid


def _is_on_cpu(grid: Tensor) -> bool:
    """Whether OpenCV can compute on a grid's memory: it is on the CPU, and no compiler traces the computation."""
    return grid.device.type == "cpu" and not torch.compiler.is_compiling()


def _binomial(grid: Tensor) -> Tensor:
    """16 S x of a grid; what it writes below an image is no part of it."""
    if _is_on_cpu(grid):  # two fifths of the time of four additions of torch
        import cv2

        tall = grid.view(-1, grid.shape[3]).numpy()
        filtered = cv2.sepFilter2D(tall, -1, _BINOMIAL, _BINOMIAL, borderType=cv2.BORDER_CONSTANT)
        return torch.from_numpy(filtered).view(grid.shape)
    pairs = avg_pool2d(grid, 2, stride=1, padding=1, divisor_override=1)
    return avg_pool2d(pairs, 2, stride=1, divisor_override=1)


def _halve(grid: Tensor) -> Tensor:
    """Means of 2 x 2 cells: (B, C, height / 2 + 1, width / 2), with one row of zeros."""
    if _is_on_cpu(grid):
        return _resize(grid, 0.5)
    return avg_pool2d(grid, 2)


def _double(grid: Tensor) -> Tensor:
    """Each cell as 2 x 2: (B, C, 2 height + 4, 2 width)."""
    if _is_on_cpu(grid):
        return _resize(grid, 2)
    return interpolate(grid, scale_factor=2, mode="nearest")


def _resize(grid: Tensor, factor: float) -> Tensor:
    import cv2

    height, width = int(grid.shape[2] * factor), int(grid.shape[3] * factor)
    tall = grid.view(-1, grid.shape[3]).numpy()
    size = width, height * grid.shape[0] * grid.shape[1]
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST
    return torch.from_numpy(cv2.resize(tall, size, interpolation=how)).view(*grid.shape[:2], height, width)
