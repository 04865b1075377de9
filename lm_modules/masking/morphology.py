"""The plan of a forward pass: where later layers see something, and from which neighbours padding is made.

A plan depends on `visible` alone, which is one bit a position, so in eager mode it is made on the CPU with NumPy, whose
calls cost a fraction of a tensor operation's. `functional` does the same with tensors under `torch.compile`, which
cannot trace how many positions a ring has.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskrobust.lm_modules.masking import functional

_Map = NDArray[np.bool_]


class _Codes(NamedTuple):
    """What nine bits tell of which of the 3x3 positions around one are known, row by row.

    Attributes:
        counts: (512,) int64, number of known ones by code.
        starts: (512,) int64, where those of a code start in the two below.
        bits: (2304,) int64, the known ones of all codes.
        weights: (2304,) float32, one over the number of known ones of the code.
    """

    counts: NDArray[np.int64]
    starts: NDArray[np.int64]
    bits: NDArray[np.int64]
    weights: NDArray[np.float32]


def _make_codes() -> _Codes:
    is_known = np.arange(512)[:, None] >> np.arange(9) & 1
    counts = is_known.sum(axis=1)
    weights = np.repeat(1.0 / counts.clip(min=1), counts).astype(np.float32)
    return _Codes(counts, counts.cumsum() - counts, is_known.nonzero()[1], weights)


_CODES = _make_codes()


@dataclass(frozen=True)
class RingRows:
    """One ring of neighbour padding.

    Attributes:
        rows: (N,) int64, the rows that the ring fills.
        neighbours: (M,) int64, the rows of their known 3x3 neighbours, those of the first row first.
        starts: (N,) int64, where each row's neighbours start.
        weights: (M,) float32, one over the number of known neighbours of a row.
    """

    rows: Tensor
    neighbours: Tensor
    starts: Tensor
    weights: Tensor


def ring_rows(visible: Tensor, rings: int) -> list[RingRows]:
    """The plan of `functional.neighbour_rings`, as rows.

    Args:
        visible: (B, 1, H, W) bool.
        rings: number of rings; the plan ends early where nothing is left to fill.
    """
    batch, _, height, width = visible.shape
    framed = np.zeros((batch, height + 2, width + 2), np.uint8)
    known = framed[:, 1:-1, 1:-1]
    known[...] = visible[:, 0].cpu().numpy()
    step_of = (_CODES.bits // 3 - 1) * width + _CODES.bits % 3 - 1
    plan = []
    for _ in range(rings):
        across = framed[:, :, :-2] | framed[:, :, 1:-1] << 1 | framed[:, :, 2:] << 2
        codes = across[:, 2:].astype(np.uint16) << 6 | across[:, 1:-1] << 3 | across[:, :-2]
        rows = np.flatnonzero((codes > 0) > known)
        if rows.size == 0:
            break
        codes_of_rows = codes.ravel()[rows]
        counts = _CODES.counts[codes_of_rows]
        starts = counts.cumsum() - counts
        places = np.repeat(_CODES.starts[codes_of_rows] - starts, counts) + np.arange(starts[-1] + counts[-1])
        arrays = (rows, np.repeat(rows, counts) + step_of[places], starts, _CODES.weights[places])
        plan.append(RingRows(*(torch.from_numpy(array).to(visible.device) for array in arrays)))
        known[...] = codes > 0
    return plan


def propagate_visible(
    visible: Tensor,
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
    ceil_mode: bool = False,
) -> Tensor:
    """`functional.propagate_visible`."""
    if visible.device.type != "cpu" or torch.compiler.is_compiling():
        return functional.propagate_visible(visible, kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)
    batch, _, *sizes = visible.shape
    left, right, top, bottom = padding
    before, after = (top, left), (bottom, right)
    outputs = tuple(map(_outputs, sizes, before, after, kernel_size, stride, dilation, [ceil_mode] * 2))
    needed = tuple(
        max(start + size, (count - 1) * step + (kernel - 1) * spread + 1)
        for start, size, count, step, kernel, spread in zip(
            before, sizes, outputs, stride, kernel_size, dilation, strict=True
        )
    )
    framed: _Map = np.zeros((batch, *needed), np.bool_)
    framed[:, top : top + sizes[0], left : left + sizes[1]] = visible[:, 0].numpy()
    return torch.from_numpy(_any_under(framed, kernel_size, stride, dilation, outputs)[:, None])


def _outputs(size: int, before: int, after: int, kernel: int, step: int, spread: int, ceil_mode: bool) -> int:
    """Positions of a window along one axis; in ceil mode it may run over the end, but not start in the padding."""
    room = size + before + after - (kernel - 1) * spread - 1
    return min(-(-room // step) + 1, -(-(size + before) // step)) if ceil_mode else room // step + 1


def _any_under(
    framed: _Map,
    kernel_size: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    outputs: tuple[int, ...],
) -> _Map:
    """Whether a window holds a True, (B, *outputs); one axis after the other."""
    for axis in (1, 2):
        step, span = stride[axis - 1], stride[axis - 1] * (outputs[axis - 1] - 1) + 1
        first, *others = (
            framed[(slice(None),) * axis + (slice(start, start + span, step),)]
            for start in range(0, kernel_size[axis - 1] * dilation[axis - 1], dilation[axis - 1])
        )
        found = first.copy()
        for other in others:
            found |= other
        framed = found
    return framed
