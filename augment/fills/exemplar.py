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

Array = NDArray[Any]


@fill("exemplar")
def fill_exemplar(images: Tensor, visible: Tensor, mean: Sequence[float]) -> Tensor:
    """Fill every hole with a piece of the same picture, shifted by the offset t whose surroundings match the rim best.

    x(p) becomes x(p + t), where t minimises

        (sum_r v(r + t) |x(r) - x(r + t)|^2 / (C sum_r v(r + t)) + 1) (1 + 2 (1 - covered(t)))

    over the rim r, the visible pixels at most 3 rows and 3 columns from the hole, with v = 1 where visible, x rounded
    to [0, 255] and covered(t) the fraction of the hole with v(p + t) = 1. At least .6 of the hole and of the rim must
    be visible there. The search goes from coarse to fine: first in blocks of 2^d pixels, by correlation with the FFT,
    among all offsets up to the size of the hole (rounded up to a multiple of 4) with its rim, and at least 8; then the
    two best are refined from level to level. covered is counted in the coarsest blocks. On ties there the uppermost
    offset wins, then the leftmost. Sums are exact integers: the result is the same on any machine.

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
    pixels = to_pixels(from_pixels(shown).nan_to_num(), torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    for sample, seen in enumerate(visible[:, 0].cpu().numpy()):
        if seen.any() and not seen.all():
            place = torch.from_numpy(sources(pixels[sample], seen)[0]).to(images.device)
            drawn[sample] = shown[sample].flatten(1)[:, place]
    return draw(images, visible, drawn)


def sources(pixels: NDArray[np.uint8], visible: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where each pixel of one picture gets its value from: itself where visible, a visible pixel elsewhere.

    Args:
        pixels: (H, W, C); not read where hidden.
        visible: (H, W), True somewhere.

    Returns:
        (H, W) row x W + column, and (H, W) whether an offset leads there: hidden pixels that are not mirrored.
    """
    place, matched = mirrored(visible), np.zeros_like(visible)
    labels, boxes = _holes(visible)
    if len(boxes):
        offsets = _best_offsets(_Blocks(np.where(visible[..., None], pixels, np.uint8(0)), labels), boxes)
        row, column = np.nonzero((labels > 0) & (labels < _OUTSIDE))
        there, inside = _places(
            row + offsets[labels[row, column], 0], column + offsets[labels[row, column], 1], visible
        )
        seen = inside & visible.reshape(-1)[there]
        place[row[seen], column[seen]] = there[seen]
        matched[row[seen], column[seen]] = True
    return place, matched


def mirrored(visible: NDArray[np.bool_]) -> NDArray[np.int64]:
    """As `sources`, without offsets: hidden pixel p from 2 q - p, with q the nearest visible pixel, or from q.

    Args:
        visible: (H, W), True somewhere.

    Returns:
        (H, W) row x W + column.
    """
    import cv2

    place = np.arange(visible.size).reshape(visible.shape)
    row, column = np.nonzero(~visible)
    hidden = (~visible).view(np.uint8)
    _, nearest = cv2.distanceTransformWithLabels(hidden, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    place_of = np.zeros(int(nearest.max()) + 1, dtype=np.int64)
    place_of[nearest[visible]] = place[visible]
    near = place_of[nearest[row, column]]
    near_row, near_column = np.divmod(near, visible.shape[1])
    there, inside = _places(2 * near_row - row, 2 * near_column - column, visible)
    place[row, column] = np.where(inside & visible.reshape(-1)[there], there, near)
    return place


def _places(row: Array, column: Array, visible: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Places in the flattened picture, 0 where outside of it, and whether they are inside."""
    height, width = visible.shape
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    return np.where(inside, row * width + column, 0), inside


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
        pixels: (H, W, C) uint8, the mean colour of blocks that are wholly visible, 0 elsewhere.
        labels: (H, W) int32: 0 where wholly visible, a hole's number from 1, or `_OUTSIDE`: hidden and of no hole.
    """

    pixels: Array
    labels: Array

    def halved(self) -> "_Blocks":
        """In blocks of twice the side; one with several holes belongs to that with the highest number."""
        odd = [(0, side % 2) for side in self.labels.shape]
        quarters = [(slice(y, None, 2), slice(x, None, 2)) for y in (0, 1) for x in (0, 1)]
        padded = np.pad(self.labels, odd, constant_values=_OUTSIDE)
        labels = np.maximum.reduce([padded[each] for each in quarters])
        padded = np.pad(self.pixels, [*odd, (0, 0)]).astype(np.uint16)
        total = np.add.reduce([padded[each] for each in quarters])
        return _Blocks(np.where(labels[..., None] == 0, (total + 2) // 4, 0).astype(np.uint8), labels)

    def padded(self, margin: int) -> "_Blocks":
        """With hidden blocks on all sides."""
        sides = [(margin, margin)] * 2
        return _Blocks(np.pad(self.pixels, [*sides, (0, 0)]), np.pad(self.labels, sides, constant_values=_OUTSIDE))


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
    for high, wide in np.unique(sizes, axis=0).tolist():
        holes = np.flatnonzero((sizes == (high, wide)).all(axis=1))
        at_once = max(1, _BLOCKS_AT_ONCE // (9 * max(high, wide, _LEAST_REACH) ** 2))
        for some in np.split(holes, range(at_once, len(holes), at_once)):
            yield _Boxes(some + 1, first[some, 0], first[some, 1], (high, wide))


def _searched(level: _Blocks, depth: int, boxes: _Boxes) -> tuple[Array, Array]:
    """The best offsets (G, K, 2) among all in reach, no two touching, and their weights (G, K), inf for no offset.

    The weight is 1 + 2 (1 - covered). The sums of v(r + t) (x(r) - x(r + t))^2 over the rim are three correlations, for
    all t at once; they are integers, to which the FFT's are rounded.
    """
    with library_needed():
        from scipy import fft

    radius = _radius(depth)
    reach = max(_LEAST_REACH, max(boxes.size) + 2 * radius)
    labels, window = _windows(level, boxes, 1, radius + reach)
    there = window.astype(np.float64)
    holes, seen = labels == boxes.numbers[:, None, None], labels == 0
    rims = _rims(holes, seen, radius)
    squares = np.square(there).sum(axis=1)
    size = [fft.next_fast_len(side, real=True) for side in labels.shape[1:]]
    rim, hole, here = (each.conj() for each in _transforms([rims, holes, there * rims[:, None]], size))
    rim_squares = fft.rfft2(squares * rims, size).conj()
    shown, shown_squares, shown_pixels = _transforms([seen, squares, there], size)
    error = rim_squares * shown + rim * shown_squares - 2 * (here * shown_pixels).sum(axis=1)
    lags = np.arange(-reach, reach + 1)
    sums = np.rint(fft.irfft2(np.stack([error, rim * shown, hole * shown]), size)[..., lags[:, None], lags])
    count, area = (each.sum(axis=(1, 2))[:, None, None] for each in (rims, holes))
    weights = 3 - 2 * sums[2] / np.maximum(area, 1)
    fits = (sums[1] >= np.maximum(1, LEAST_COVERED * count)) & (sums[2] >= np.maximum(1, LEAST_COVERED * area))
    costs = np.where(fits, _cost(sums[0], sums[1] * there.shape[1], weights), np.inf)
    return _best_apart(costs, weights, reach)


def _best_apart(costs: Array, weights: Array, reach: int) -> tuple[Array, Array]:
    """Offsets (G, K, 2) of the least costs (G, 2 reach + 1, 2 reach + 1), no two neighbours, and their weights."""
    hole, offsets, kept = np.arange(len(costs)), [], []
    for _ in range(_KEPT):
        row, column = np.unravel_index(costs.reshape(len(costs), -1).argmin(axis=1), costs.shape[1:])
        offsets.append(np.stack([row, column], axis=1) - reach)
        kept.append(np.where(np.isfinite(costs[hole, row, column]), weights[hole, row, column], np.inf))
        for y, x in _NEIGHBOURS:
            costs[hole, (row + y).clip(0, 2 * reach), (column + x).clip(0, 2 * reach)] = np.inf
    return np.stack(offsets, axis=1), np.stack(kept, axis=1)


def _refined(
    level: _Blocks, depth: int, boxes: _Boxes, scale: int, offsets: Array, weights: Array
) -> tuple[Array, Array]:
    """The best offsets of a level among those within one block of twice the offsets of the level above."""
    offsets = (2 * offsets[:, :, None] + _NEIGHBOURS).reshape(len(offsets), -1, 2)
    weights = weights.repeat(len(_NEIGHBOURS), axis=1)
    offsets[~np.isfinite(weights)] = 0
    radius = _radius(depth)
    labels, _ = _windows(level, boxes, scale, radius)
    hole, row, column = np.nonzero(_rims(labels == boxes.numbers[:, None, None], labels == 0, radius))
    margin = int(np.abs(offsets).max())
    wide = level.padded(margin)
    width, channels = wide.pixels.shape[1:]
    own = (boxes.top[hole] * scale - radius + row + margin) * width
    own += boxes.left[hole] * scale - radius + column + margin
    there = own[:, None] + (offsets[..., 0] * width + offsets[..., 1])[hole]
    seen = (wide.labels == 0).reshape(-1).take(there)
    error = np.zeros(there.shape, dtype=np.int32)
    for plane in wide.pixels.transpose(2, 0, 1).reshape(channels, -1).astype(np.int32):
        difference = plane.take(there)
        difference -= plane[own, None]
        error += np.square(difference, out=difference)
    error *= seen
    costs = np.full(weights.shape, np.inf)
    if len(hole):
        present, start, count = np.unique(hole, return_index=True, return_counts=True)
        error, number = (np.add.reduceat(each, start, axis=0, dtype=np.int64) for each in (error, seen))
        fits = number >= np.maximum(1, LEAST_COVERED * count[:, None])
        costs[present] = np.where(fits, _cost(error, number * channels, weights[present]), np.inf)
    best = costs.argsort(axis=1, kind="stable")[:, :_KEPT]
    kept = np.where(
        np.isfinite(np.take_along_axis(costs, best, axis=1)), np.take_along_axis(weights, best, axis=1), np.inf
    )
    return np.take_along_axis(offsets, best[..., None], axis=1), kept


_NEIGHBOURS = np.array([(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)])


def _radius(depth: int) -> int:
    """Width of the rim in blocks."""
    return max(1, round(RIM_WIDTH / (1 << depth)))


def _windows(level: _Blocks, boxes: _Boxes, scale: int, margin: int) -> tuple[Array, Array]:
    """Labels (G, h, w) and pixels (G, C, h, w) of the boxes, in blocks `scale` times as small, and `margin` around."""
    high, wide = (side * scale + 2 * margin for side in boxes.size)
    outside = max(high, wide)
    padded = level.padded(outside)
    corner = boxes.top * scale - margin + outside, boxes.left * scale - margin + outside
    labels = sliding_window_view(padded.labels, (high, wide))[corner]
    return labels, sliding_window_view(padded.pixels, (high, wide), axis=(0, 1))[corner]


def _rims(holes: Array, seen: Array, radius: int) -> Array:
    """(G, h, w) bool, visible blocks around holes, which end at least `radius` within their windows."""
    import cv2

    one_below_the_other = holes.reshape(-1, holes.shape[2]).view(np.uint8)
    grown = cv2.dilate(one_below_the_other, np.ones((2 * radius + 1, 2 * radius + 1), np.uint8))
    return grown.reshape(holes.shape).view(np.bool_) & seen


def _transforms(planes: Sequence[Array], size: Sequence[int]) -> Iterator[Array]:
    with library_needed():
        from scipy import fft

    return (fft.rfft2(each.astype(np.float64, copy=False), size) for each in planes)


def _cost(error: Array, values: Array, weight: Array) -> Array:
    """(mean squared error + 1) x weight: 1, so that of exact matches the one that covers most is best."""
    return (error / np.maximum(values, 1) + 1) * weight
