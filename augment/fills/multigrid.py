"""Multigrid-preconditioned conjugate gradients for linear imputation, batched, in float32.

The equations: every hidden pixel is the weighted mean of its neighbours, 1/6 for direct and 1/12 for diagonal ones,
with visible pixels given. With S the binomial filter [1 2 1] x [1 2 1] / 16, 12 times the weighted sum of the
neighbours is 16 S x - 4 x: four additions. All equations are multiplied by 12, so that their coefficients are whole
numbers, and rounding does not add up over a large hole. The matrix is symmetric and positive definite: conjugate
gradients converge for any hole, and a V-cycle is their preconditioner. A cell of a coarser level covers 2 x 2 cells
and is hidden where all of them are; it gets the sum of their residuals and hands one correction back to them, which the
smoothing beside it turns into bilinear transfer both ways. The same weights serve on every level, only stiffer towards
visible cells, which are nearer than the spacing of a coarse level says.

Arrays are flat: each row of an image is preceded by one zero, a row of zeros stands above and below, so that a
neighbour is a shift of the whole array. Heights and widths are rounded up to even ones. That is a "grid" below.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from maskrobust.augment.fills.drawing import draw

_SWEEP_WEIGHTS = (1.0, 2.5)
_COARSEST_SIZE = 8
_LARGEST_CORRECTION = 3e-5
_MOST_ITERATIONS = 100
_THIN = 16
_CPU_CHUNK = 600_000


@dataclass(frozen=True)
class _Level:
    """One level of the hierarchy: what follows from `visible`, as grids (B, 1, n), and room to work in, (B, C, n).

    Attributes:
        height, width: even size of a grid.
        thin: whether the image is one pixel high or wide here.
        hidden: 1 at unknowns, 0 elsewhere.
        own: hidden (12 times the sum of the neighbours' weights + 4), so that A x = own x - hidden 16 S x.
        gain: hidden / own.
        right: room for the residuals that the finer level hands down.
        solution, gained, residual, first, second: room.
    """

    height: int
    width: int
    thin: bool
    hidden: Tensor
    own: Tensor
    gain: Tensor
    right: Tensor
    solution: Tensor
    gained: Tensor
    residual: Tensor
    first: Tensor
    second: Tensor

    def core(self, grid: Tensor) -> Tensor:
        """The part of a grid from the first pixel to the last one."""
        return _core(grid, self.width)

    def picture(self, grid: Tensor) -> Tensor:
        """A grid's pixels, without its zeros: a view (B, ?, height, width)."""
        return _picture(grid, self.height, self.width)

    def binomial(self, grid: Tensor) -> Tensor:
        """16 S x from the first pixel to the last one, in this level's room."""
        return _binomial(grid, self.width, self.first, self.second)

    def apply(self, grid: Tensor, out: Tensor) -> Tensor:
        """A x, as a grid."""
        torch.mul(self.own, grid, out=out)
        self.core(out).addcmul_(self.binomial(grid), self.core(self.hidden), value=-1)
        return out

    def dot(self, first: Tensor, second: Tensor) -> Tensor:
        """Inner product of two grids, (B, C, 1); row by row, so that the order does not depend on the batch."""
        return self.picture(torch.mul(first, second, out=self.first)).sum(dim=3).sum(dim=2).unsqueeze(2)


class _Hierarchy(NamedTuple):
    """Levels from the finest to the coarsest, and the inverse (B, N, N) of the coarsest one's N equations."""

    levels: list[_Level]
    inverse: Tensor


@torch.no_grad()
def impute(numbers: Tensor, visible: Tensor, start: Tensor) -> Tensor:
    """Replace every hidden pixel by the weighted mean of its eight neighbours.

    An image is done when a V-cycle corrects it by less than 3e-5 everywhere: that leaves an error below 1e-4. It then
    stays as it is, whatever the rest of the batch still needs, so that the result does not depend on it.

    Args:
        numbers: (B, C, H, W) float; hidden ones are not read.
        visible: (B, 1, H, W) bool.
        start: (B, C, 1, 1), first guess; the result where nothing is visible.

    Returns:
        (B, C, H, W) float32, or float64 where an image is so thin that float32 would not do.
    """
    dtype = torch.float64 if min(numbers.shape[2:]) < _THIN else torch.float32
    start = start.to(dtype)
    known = draw(numbers.to(dtype) - start, visible, torch.zeros_like(start))
    at_once = max(1, _CPU_CHUNK // max(1, known[:1].numel()) if known.device.type == "cpu" else len(known))
    parts = zip(known.split(at_once), visible.split(at_once), strict=True)
    with torch.autocast(known.device.type, enabled=False):
        return start + torch.cat([_solve(*part) for part in parts])


def _solve(known: Tensor, visible: Tensor) -> Tensor:
    """Conjugate gradients, preconditioned by one V-cycle; every channel of every image is a system of its own.

    `known` is 0 in the hole, and the result is 0 where nothing is visible.
    """
    height, width = known.shape[2:]
    hidden = ~visible & visible.any(dim=3, keepdim=True).any(dim=2, keepdim=True)
    hierarchy = _build_hierarchy(hidden, known)
    finest = hierarchy.levels[0]
    solution = _as_grid(known)
    residual, direction, image = torch.zeros_like(solution), torch.zeros_like(solution), torch.empty_like(solution)
    torch.mul(finest.binomial(solution), finest.core(finest.hidden), out=finest.core(residual))
    active = torch.ones_like(hidden[:, :, 0, :1])
    before = torch.ones((), device=known.device)
    for _ in range(_MOST_ITERATIONS):
        correction = _cycle(hierarchy, residual)
        largest = torch.maximum(correction.amax(dim=(1, 2), keepdim=True), -correction.amin(dim=(1, 2), keepdim=True))
        done = active & ~(largest >= _LARGEST_CORRECTION)
        if done.any():
            solution.addcmul_(correction, done.to(solution.dtype))
        active = active & ~done
        if not active.any():
            break
        now = finest.dot(residual, correction)
        direction.mul_(now / before).add_(correction)
        before = now.clamp(min=torch.finfo(torch.float32).tiny)
        finest.apply(direction, out=image)
        step = active * now / finest.dot(direction, image).clamp(min=torch.finfo(torch.float32).tiny)
        solution.addcmul_(direction, step)
        residual.addcmul_(image, step, value=-1)
    return finest.picture(solution)[:, :, :height, :width]


def _cycle(hierarchy: _Hierarchy, residual: Tensor, finest: int = 0) -> Tensor:
    """One symmetric V-cycle: an approximation of A^-1 residual, as a grid in the room of level `finest`."""
    level = hierarchy.levels[finest]
    if finest + 1 == len(hierarchy.levels):
        pixels = level.picture(residual).flatten(2)
        level.picture(level.solution).copy_((pixels @ hierarchy.inverse).view(level.picture(residual).shape))
        return level.solution
    solution = level.solution.copy_(torch.mul(level.gain, residual, out=level.gained))
    _smooth(level, solution, _SWEEP_WEIGHTS[1:])
    remaining = torch.sub(residual, level.apply(solution, out=level.residual), out=level.residual)
    coarser = hierarchy.levels[finest + 1]
    _add_correction(level, coarser, solution, _cycle(hierarchy, _coarsen(level, coarser, remaining), finest + 1))
    _smooth(level, solution, _SWEEP_WEIGHTS[::-1])
    return solution


def _smooth(level: _Level, solution: Tensor, weights: Sequence[float]) -> None:
    """Relax towards what the neighbours ask for: x <- x + weight gain (residual - A x), for each weight."""
    inner, gained, gain = (level.core(grid) for grid in (solution, level.gained, level.gain))
    for weight in weights:
        around = level.binomial(solution)
        target = torch.addcmul(gained, around, gain, out=inner if weight == 1 else around)
        if weight != 1:
            inner.lerp_(target, weight)


def _coarsen(level: _Level, coarser: _Level, remaining: Tensor) -> Tensor:
    """Sums of 2 x 2 cells, 0 where a coarse cell is not hidden, as a grid."""
    fine = level.picture(remaining)
    rows = fine[:, :, 0::2] + fine[:, :, 1::2]
    inner = coarser.picture(coarser.right)[:, :, : rows.shape[2], : rows.shape[3] // 2]
    torch.add(rows[..., 0::2], rows[..., 1::2], out=inner)
    return coarser.right.mul_(coarser.hidden * (2 if level.thin else 1))


def _add_correction(level: _Level, coarser: _Level, solution: Tensor, correction: Tensor) -> None:
    """Add each coarse cell's correction to its 2 x 2 cells where they are hidden."""
    fine, hidden = level.picture(solution), level.picture(level.hidden)
    coarse = coarser.picture(correction)[:, :, : level.height // 2, : level.width // 2]
    wide = coarse.new_empty(*coarse.shape[:3], level.width)
    wide[..., 0::2] = coarse
    wide[..., 1::2] = coarse
    for parity in (0, 1):
        fine[:, :, parity::2].addcmul_(wide, hidden[:, :, parity::2])


def _build_hierarchy(hidden: Tensor, known: Tensor) -> _Hierarchy:
    """Halve the resolution until few pixels are left; a coarse cell is hidden where all of its cells are.

    `known` (B, C, H, W) gives the number of channels and the dtype.
    """
    inside, spacing = torch.ones_like(hidden[:1]), 1.0
    levels = [_build_level(hidden, inside, 1.0, known)]
    while max(hidden.shape[2:]) > _COARSEST_SIZE:
        visible = max_pool2d((inside & ~hidden).float(), 2, ceil_mode=True).bool()
        inside = max_pool2d(inside.float(), 2, ceil_mode=True).bool()
        hidden, spacing = inside & ~visible, 2 * spacing
        levels.append(_build_level(hidden, inside, 2 * spacing / (spacing + 1), known))
    return _Hierarchy(levels, _invert(levels[-1]))


def _invert(level: _Level) -> Tensor:
    """A^-1 of a small level, 0 in the rows and columns of pixels that are not hidden: (B, N, N)."""
    down, across = (_binomial_matrix(size, level.own) for size in (level.height, level.width))
    own, hidden = level.picture(level.own).flatten(1), level.picture(level.hidden).flatten(1)
    both = hidden.unsqueeze(1) * hidden.unsqueeze(2)
    inverse: Tensor = torch.linalg.inv(torch.diag_embed(own + 1 - hidden) - both * torch.kron(down, across))
    return inverse * both


def _binomial_matrix(size: int, like: Tensor) -> Tensor:
    """The filter [1 2 1] as a matrix."""
    neighbours = torch.diag(like.new_ones(size - 1), 1)
    return neighbours + torch.diag(like.new_full((size,), 2.0)) + neighbours.T


def _build_level(hidden: Tensor, inside: Tensor, stiffness: float, known: Tensor) -> _Level:
    """A level of which the cells `inside` the image exist; visible neighbours weigh `stiffness` times as much."""
    height, width = (size + size % 2 for size in hidden.shape[2:])
    unknown = _as_grid(hidden.to(known.dtype))
    weight = unknown + stiffness * (_as_grid(inside.to(known.dtype)) - unknown)
    right, solution = (unknown.new_zeros(*known.shape[:2], unknown.shape[2]) for _ in range(2))
    room = [torch.empty_like(solution) for _ in range(4)]
    own = torch.zeros_like(unknown)
    neighbours = _binomial(weight, width, torch.empty_like(weight), torch.empty_like(weight))
    _core(own, width).copy_(_core(unknown, width) * (neighbours - 4 * _core(weight, width) + 4))
    gain = own.reciprocal().masked_fill(own == 0, 0)
    return _Level(height, width, min(hidden.shape[2:]) == 1, unknown, own, gain, right, solution, *room)


def _binomial(grid: Tensor, width: int, first: Tensor, second: Tensor) -> Tensor:
    """16 S x from the first pixel to the last one; overwrites `first`, and the result lies in `second`."""
    pitch, count = width + 1, grid.shape[2]
    across = torch.add(grid[..., :-1], grid[..., 1:], out=first[..., : count - 1])
    across = torch.add(across[..., :-1], across[..., 1:], out=second[..., : count - 2])
    down = torch.add(across[..., :-pitch], across[..., pitch:], out=first[..., : count - 2 - pitch])
    return torch.add(down[..., :-pitch], down[..., pitch:], out=second[..., : count - 2 - 2 * pitch])


def _as_grid(numbers: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, n), n = (height + 2) (width + 1) + 1 for the even height and width."""
    height, width = (size + size % 2 for size in numbers.shape[2:])
    grid = numbers.new_zeros(*numbers.shape[:2], (height + 2) * (width + 1) + 1)
    _picture(grid, height, width)[:, :, : numbers.shape[2], : numbers.shape[3]] = numbers
    return grid


def _picture(grid: Tensor, height: int, width: int) -> Tensor:
    rows: Tensor = grid[..., :-1].unflatten(2, (height + 2, width + 1))
    return rows[:, :, 1:-1, 1:]


def _core(grid: Tensor, width: int) -> Tensor:
    return grid[..., width + 2 : -width - 2]
