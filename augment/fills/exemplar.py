"""The fill `exemplar`: a hole shows the piece of the same picture whose surroundings match the hole's rim best."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

from maskrobust.augment.fills.colours import mean_colour
from maskrobust.augment.fills.drawing import check_pixels, draw, fill, from_pixels, to_pixels
from maskrobust.augment.threads import of_each
from maskrobust.errors import library_needed

RIM_WIDTH = 3
"""Pixels around a hole that are compared, where visible."""

LEAST_COVERED = 0.6
"""Fraction of a hole, and of its rim, that has to be visible where an offset leads."""

LEAST_AREA, LEAST_CELL = 16, 4
"""Pixels of a region, and the side of a cell of a grid, from which on an offset is searched for."""

_MOST_BLOCKS = 1600
_KEPT = 2
_LEAST_REACH = 8
_SIDES_ROUNDED_TO = 4
_BLOCKS_AT_ONCE = 2**20
_OUTSIDE = np.iinfo(np.int32).max
_HIDDEN = -1

Array = NDArray[Any]


@fill("exemplar", on_cpu=True)
def fill_exemplar(images: Tensor, visible: Tensor, mean: Sequence[float]) -> Tensor:
    """Fill every hole with a piece of the same picture, shifted by the offset t whose surroundings match the rim best.

    x(p) becomes x(p + t), where t minimises

        (sum_r v(r + t) |x(r) - x(r + t)|^2 / (C sum_r v(r + t)) + 1) (1 + 2 (1 - covered(t)))

    over the rim r, the visible pixels at most 3 rows and 3 columns from the hole, with v = 1 where visible, x rounded
    to [0, 255] and covered(t) the fraction of the hole with v(p + t) = 1. At least .6 of the hole and of the rim must
    be visible there. The search goes from coarse to fine: first in blocks of 2^d pixels, among all offsets up to the
    size of the hole (rounded up to a multiple of 4) with its rim, and at least 8; then the two best are refined from
    level to level. covered is counted in the coarsest blocks. On ties there the uppermost offset wins, then the
    leftmost. Sums are exact integers: the result is the same on any machine.

    A hole is a hidden cell where all holes are cells of one grid of at least 4 pixels, as patches are, and a
    4-connected region of at least 16 pixels otherwise. What has no source (no offset covers enough, or x(p + t) is
    hidden or outside) is mirrored at the edge of the hole: x(2 q - p), with q the nearest visible pixel by OpenCV's
    distance transform, or x(q) where 2 q - p is hidden or outside. So each hidden pixel gets the value of a visible
    one. Where nothing is visible, the dataset's mean colour is drawn. Blocks are counted from the upper left corner,
    so that the fill of a flipped picture is in general not the flipped fill.

    One offset a hole is the simplest shift-map (Pritch et al., "Shift-map image editing", ICCV 2009); to match what
    surrounds the hole is exemplar-based inpainting (Criminisi et al., "Region filling and object removal by
    exemplar-based image inpainting", IEEE Transactions on Image Processing 13(9), 2004).

    Args:
        images: (B, C, H, W) float in [0, 1] or uint8 in [0, 255].
        visible: (B, 1, H, W) bool.
        mean: the dataset's mean colour, one value in [0, 1] for each of the C channels.

    Returns:
        (B, C, H, W), dtype of `images`; visible pixels unchanged bit for bit. What is drawn depends on visible pixels
        alone and carries no gradient.

    Raises:
        TypeError, InputError: `images` cannot be filled or `visible` does not fit them; see `check_pixels`.
        InputError: `mean` has not one value for each channel.
    """
    check_pixels(images, visible)
    shown = images.detach()
    drawn = to_pixels(mean_colour(images, mean), images.dtype).expand_as(images).contiguous()
    seen = visible.flatten(1)
    some = (seen.any(dim=1) & ~seen.all(dim=1)).nonzero().squeeze(1)
    pixels = to_pixels(from_pixels(shown[some]).nan_to_num(), torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    for sample, (place, _) in zip(some.tolist(), of_each(sources, pixels, visible[some, 0].cpu().numpy()), strict=True):
        there = torch.from_numpy(place).to(images.device).reshape(1, -1)
        drawn[sample] = shown[sample].flatten(1).take_along_dim(there, 1).view_as(drawn[sample])
    return draw(images, visible, drawn)


def sources(pixels: NDArray[np.uint8], visible: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where each pixel of one picture gets its value from: itself where visible, a visible pixel elsewhere.

    Args:
        pixels: (H, W, C); not read where hidden.
        visible: (H, W), True somewhere.

    Returns:
        (H, W) row x W + column, and (H, W) whether an offset leads there: hidden pixels that are not mirrored.
    """
    place, matched = np.arange(visible.size), np.zeros(visible.size, dtype=np.bool_)
    labels, boxes = _holes(visible)
    if len(boxes):
        own = np.flatnonzero((labels > 0) & (labels < _OUTSIDE))
        offsets = _best_offsets(_Blocks(pixels.transpose(2, 0, 1), labels), boxes)[labels.reshape(-1)[own]]
        there, seen = _shifted(own, offsets[:, 0], offsets[:, 1], visible)
        place[own[seen]] = there[seen]
        matched[own[seen]] = True
    own = np.flatnonzero(~(visible.reshape(-1) | matched))
    place[own] = _mirrored(own, visible)
    return place.reshape(visible.shape), matched.reshape(visible.shape)


def mirror(images: Tensor, visible: Tensor) -> Tensor:
    """Draw in every hole what lies beside it, mirrored at its edge, as `fill_exemplar` does where it finds no source.

    Args:
        images: (B, C, H, W), of any dtype.
        visible: (B, 1, H, W) bool.

    Returns:
        (B, C, H, W); images of which nothing or everything is visible, and visible pixels, are those of `images`.
    """
    drawn = images.detach().clone(memory_format=torch.contiguous_format)
    for pixels, seen in zip(drawn.flatten(2), visible[:, 0].cpu().numpy(), strict=True):
        hidden = np.flatnonzero(~seen)
        if 0 < len(hidden) < seen.size:
            own, place = (torch.from_numpy(each).to(images.device) for each in (hidden, _mirrored(hidden, seen)))
            pixels[:, own] = pixels[:, place]
    return drawn


def _mirrored(own: Array, visible: NDArray[np.bool_]) -> Array:
    """Where hidden pixels (N,), row x W + column, get their value from by mirroring: (N,)."""
    near = nearest_visible(own, visible)
    down, right = (b - a for a, b in zip(*(np.divmod(each, visible.shape[1]) for each in (own, near)), strict=True))
    there, seen = _shifted(near, down, right, visible)
    return np.where(seen, there, near)


def nearest_visible(own: Array, visible: NDArray[np.bool_]) -> Array:
    """The nearest visible pixel of each of some pixels.

    Args:
        own: (N,), row x W + column.
        visible: (H, W) bool, True somewhere and False somewhere.

    Returns:
        (N,) int64, likewise.
    """
    import cv2

    hidden = (~visible).view(np.uint8)
    _, labels = cv2.distanceTransformWithLabels(hidden, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    seen = np.flatnonzero(visible)
    place_of = np.zeros(int(labels.max()) + 1, dtype=np.int64)
    place_of[labels.reshape(-1)[seen]] = seen
    return np.asarray(place_of[labels.reshape(-1)[own]])


def _shifted(own: Array, down: Array, right: Array, visible: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Where pixels (N,), row x W + column, are led: (N,), 0 where outside; and whether a visible pixel is there."""
    height, width = visible.shape
    row, column = np.divmod(own, width)
    row, column = row + down, column + right
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    there = np.where(inside, row * width + column, 0)
    return there, inside & visible.reshape(-1)[there]


def _holes(visible: NDArray[np.bool_]) -> tuple[Array, Array]:
    """The holes 1 to N: labels as in `_Blocks`, and top, left, height and width of each, (N, 4)."""
    import cv2

    rows, columns = _cell_starts(visible), _cell_starts(visible.T)
    if rows is not None and columns is not None:
        hidden = ~visible[np.ix_(rows[:-1], columns[:-1])]
        high, wide = np.diff(rows), np.diff(columns)
        row, column = np.nonzero(hidden)
        numbers = np.where(hidden, hidden.cumsum().reshape(hidden.shape), 0).astype(np.int32)
        boxes = np.stack([rows[row], columns[column], high[row], wide[column]], axis=1)
        return numbers.repeat(high, axis=0).repeat(wide, axis=1), boxes
    _, regions, found, _ = cv2.connectedComponentsWithStats((~visible).view(np.uint8), connectivity=4)
    large = found[:, cv2.CC_STAT_AREA] >= LEAST_AREA
    large[0] = False
    numbers = np.where(large, large.cumsum(), _OUTSIDE).astype(np.int32)
    numbers[0] = 0
    boxes = found[:, [cv2.CC_STAT_TOP, cv2.CC_STAT_LEFT, cv2.CC_STAT_HEIGHT, cv2.CC_STAT_WIDTH]]
    return numbers[regions], boxes[large]


def _cell_starts(visible: NDArray[np.bool_]) -> Array | None:
    """Rows at which the cells of a grid start, and H; None where the rows that differ do not lie on a grid."""
    changes = np.flatnonzero((visible[1:] != visible[:-1]).any(axis=1)) + 1
    step = int(np.gcd.reduce(np.diff(changes))) if len(changes) > 1 else len(visible)
    if step < LEAST_CELL:
        return None
    first = int(changes[0]) % step if len(changes) else 0
    return np.unique([0, *range(first, len(visible), step), len(visible)])


class _Blocks(NamedTuple):
    """A picture in blocks.

    Attributes:
        pixels: (C, H, W) uint8, the mean colour of blocks that are wholly visible; not read elsewhere.
        labels: (H, W) int32: 0 where wholly visible, a hole's number from 1, or `_OUTSIDE`: hidden and of no hole.
    """

    pixels: Array
    labels: Array

    def halved(self) -> "_Blocks":
        """In blocks of twice the side; one with several holes belongs to that with the highest number."""
        odd = [(0, side % 2) for side in self.labels.shape]
        labels = np.pad(self.labels, odd, constant_values=_OUTSIDE)
        labels = np.maximum(labels[::2], labels[1::2])
        pixels = np.pad(self.pixels.astype(np.uint16), [(0, 0), *odd])
        pixels = pixels[:, ::2] + pixels[:, 1::2]
        pixels = (pixels[..., ::2] + pixels[..., 1::2] + 2) // 4
        return _Blocks(pixels.astype(np.uint8), np.maximum(labels[:, ::2], labels[:, 1::2]))


class _Boxes(NamedTuple):
    """Bounding boxes of some holes, all of one size, in blocks of the coarsest level.

    Attributes:
        numbers: (G,) of the holes.
        top: (G,) first rows.
        left: (G,) first columns.
        size: height and width, at least those of each hole.
    """

    numbers: Array
    top: Array
    left: Array
    size: tuple[int, int]


def _best_offsets(level: _Blocks, boxes: Array) -> Array:
    """Offsets (N + 1, 2) of the holes 0 to N, hole 0 being none; (0, 0) where no offset covers enough."""
    depth, sides = 0, boxes[:, 2:].max(axis=1)
    while np.square(sides >> depth).sum() > _MOST_BLOCKS:
        depth += 1
    levels = [level]
    while len(levels) <= depth:
        levels.append(levels[-1].halved())
    offsets = np.zeros((len(boxes) + 1, 2), dtype=np.int64)
    for some in _batches(boxes, depth):
        found, weights = _searched(levels[depth], depth, some)
        for finer in reversed(range(depth)):
            found, weights = _refined(levels[finer], finer, some, 2 ** (depth - finer), found, weights)
        offsets[some.numbers] = np.where(np.isfinite(weights[:, :1]), found[:, 0], 0)
    return offsets


def _batches(boxes: Array, depth: int) -> Iterator[_Boxes]:
    first, last = boxes[:, :2] >> depth, (boxes[:, :2] + boxes[:, 2:] - 1) >> depth
    sizes = -(-(last - first + 1) // _SIDES_ROUNDED_TO) * _SIDES_ROUNDED_TO
    for high, wide in sorted(set(map(tuple, sizes.tolist()))):
        holes = np.flatnonzero((sizes == (high, wide)).all(axis=1))
        at_once = max(1, _BLOCKS_AT_ONCE // (9 * max(high, wide, _LEAST_REACH) ** 2))
        for some in np.split(holes, range(at_once, len(holes), at_once)):
            yield _Boxes(some + 1, first[some, 0], first[some, 1], (high, wide))


def _searched(level: _Blocks, depth: int, boxes: _Boxes) -> tuple[Array, Array]:
    """The best offsets (G, K, 2) among all in reach, no two touching, and their weights (G, K), inf for no offset."""
    reach = max(_LEAST_REACH, max(boxes.size) + 2 * _radius(depth))
    weights = _weights(level, boxes, reach)
    fits = np.isfinite(weights)
    chosen = (~fits).argsort(axis=1, kind="stable")[:, : max(1, int(fits.sum(axis=1).max()))]
    offsets = np.stack(np.divmod(chosen, 2 * reach + 1), axis=2) - reach
    weights = np.take_along_axis(weights, chosen, axis=1)
    costs, hole, found, kept = _costs(level, depth, boxes, 1, offsets, weights), np.arange(len(chosen)), [], []
    for _ in range(_KEPT):
        best = costs.argmin(axis=1)
        found.append(offsets[hole, best])
        kept.append(np.where(np.isfinite(costs[hole, best]), weights[hole, best], np.inf))
        near = np.abs(offsets - found[-1][:, None]) <= 1
        costs[near[..., 0] & near[..., 1]] = np.inf
    return np.stack(found, axis=1), np.stack(kept, axis=1)


def _weights(level: _Blocks, boxes: _Boxes, reach: int) -> Array:
    """1 + 2 (1 - covered) of each offset up to `reach`, (G, L x L) row by row; inf where it covers too little.

    The visible blocks are counted for all offsets at once, by a correlation with the FFT, rounded to integers.
    """
    with library_needed():
        from scipy import fft

    labels = _windows(level.labels, boxes, 1, reach)
    holes = labels == boxes.numbers[:, None, None]
    size = [fft.next_fast_len(side, real=True) for side in labels.shape[1:]]
    hole, shown = (fft.rfft2(each.astype(np.float32), size) for each in (holes, labels == 0))
    lags = np.arange(-reach, reach + 1)
    counts = np.rint(fft.irfft2(hole.conj() * shown, size)[:, lags[:, None], lags]).astype(np.float64)
    area = holes.sum(axis=(1, 2))[:, None]
    counts = counts.reshape(len(holes), -1)
    return np.where(counts >= np.maximum(1, LEAST_COVERED * area), 3 - 2 * counts / np.maximum(area, 1), np.inf)


def _refined(
    level: _Blocks, depth: int, boxes: _Boxes, scale: int, offsets: Array, weights: Array
) -> tuple[Array, Array]:
    """The best offsets of a level among those within one block of twice the offsets of the level above."""
    offsets = (2 * offsets[:, :, None] + _NEIGHBOURS).reshape(len(offsets), -1, 2)
    weights = weights.repeat(len(_NEIGHBOURS), axis=1)
    costs = _costs(level, depth, boxes, scale, offsets, weights)
    best = costs.argsort(axis=1, kind="stable")[:, :_KEPT]
    kept = np.where(
        np.isfinite(np.take_along_axis(costs, best, axis=1)), np.take_along_axis(weights, best, axis=1), np.inf
    )
    return np.take_along_axis(offsets, best[..., None], axis=1), kept


def _costs(level: _Blocks, depth: int, boxes: _Boxes, scale: int, offsets: Array, weights: Array) -> Array:
    """(mean squared error of the rim + 1) x weight of offsets (G, M, 2) with weights (G, M): (G, M).

    inf where the weight is, and where too little of the rim is visible. By the 1, of exact matches the one that covers
    most is best.
    """
    offsets = np.where(np.isfinite(weights)[..., None], offsets, 0)
    radius, margin = _radius(depth), int(np.abs(offsets).max(initial=0))
    labels = _windows(level.labels, boxes, scale, radius)
    rims = np.flatnonzero(_rims(labels == boxes.numbers[:, None, None], labels == 0, radius))
    costs = np.full(weights.shape, np.inf)
    if len(rims):
        height, width = (side + 2 * margin for side in level.labels.shape)
        hole, pixel = np.divmod(rims, labels[0].size)
        count = np.bincount(hole, minlength=len(labels))
        row, column = np.divmod(pixel, labels.shape[2])
        corner = (boxes.top * scale - radius + margin) * width + boxes.left * scale - radius + margin
        own = corner[hole] + row * width + column
        there = (offsets[..., 0] * width + offsets[..., 1]).T.repeat(count, axis=1) + own
        planes = np.where(level.labels == 0, level.pixels, np.int32(_HIDDEN))
        planes = np.pad(planes, [(0, 0), *[(margin, margin)] * 2], constant_values=_HIDDEN).reshape(-1, height * width)
        error = np.zeros(there.shape, dtype=np.int32)
        for plane in planes:
            values = plane.take(there)
            seen = values != _HIDDEN
            values -= plane[own]
            error += np.square(values, out=values)
        error *= seen
        present = np.flatnonzero(count)
        start = (count.cumsum() - count)[present]
        error, number = (np.add.reduceat(each, start, axis=1, dtype=np.int64).T for each in (error, seen))
        fits = number >= np.maximum(1, LEAST_COVERED * count[present, None])
        mean = error / np.maximum(number * len(level.pixels), 1)
        costs[present] = np.where(fits, (mean + 1) * weights[present], np.inf)
    return costs


_NEIGHBOURS = np.array([(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)])


def _radius(depth: int) -> int:
    """Width of the rim in blocks."""
    return max(1, round(RIM_WIDTH / (1 << depth)))


def _windows(labels: Array, boxes: _Boxes, scale: int, margin: int) -> Array:
    """Labels (G, h, w) of the boxes, in blocks `scale` times as small, and of `margin` blocks around them."""
    high, wide = (side * scale + 2 * margin for side in boxes.size)
    framed = np.pad(labels, (margin, margin + _SIDES_ROUNDED_TO * scale), constant_values=_OUTSIDE)
    windows = sliding_window_view(framed, (high, wide))
    return np.asarray(windows[boxes.top * scale, boxes.left * scale])


def _rims(holes: Array, seen: Array, radius: int) -> Array:
    """(G, h, w) bool, visible blocks around holes, which end at least `radius` within their windows."""
    import cv2

    one_below_the_other = holes.reshape(-1, holes.shape[2]).view(np.uint8)
    grown = cv2.dilate(one_below_the_other, np.ones((2 * radius + 1, 2 * radius + 1), np.uint8))
    return grown.reshape(holes.shape).view(np.bool_) & seen
