"""Features as rows, one for each position that is needed, and the rows under a window."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from maskrobust.lm_modules.masking.masked import VisibleMap, Window
from maskrobust.lm_modules.masking.morphology import PaddingRows


class WindowRows(NamedTuple):
    """Where an operation with a window finds its inputs among rows.

    Attributes:
        rings: of padding; `neighbours` are rows among those before the ring's own.
        inputs: (N x kernel positions,) rows under the window of each output; the last row holds zeros.
    """

    rings: Sequence[PaddingRows]
    inputs: Tensor


WindowCache = dict[tuple[VisibleMap, VisibleMap, Window], WindowRows]


@dataclass(frozen=True, eq=False)
class Rows:
    """Features at some positions.

    Attributes:
        values: (N, C), one row for each position of `held`, in its order.
        visible: all visible positions.
        held: the positions that have a row: `visible`, or fewer where no later step needs the rest.
        cache: rows under windows, shared by all features of one pass.
    """

    values: Tensor
    visible: VisibleMap
    held: VisibleMap
    cache: WindowCache = field(repr=False)

    def under(self, window: Window, outputs: VisibleMap) -> Tensor:
        """What a window reads for each of some outputs, neighbour padding included.

        Args:
            window: slid over the features; `held` are then all visible positions, but for a window of one position.
            outputs: positions that are computed.

        Returns:
            (N, kernel positions x C), one row for each position of `outputs`.
        """
        if window == Window((1, 1)):
            return self.values
        key = self.held, outputs, window
        if key not in self.cache:
            self.cache[key] = find_window_rows(*key)
        found = self.cache[key]
        values = self.values
        source = values.detach() if self.held.options.detach_padding else values
        for ring in found.rings:
            filled = ring.values(source)
            values, source = torch.cat([values, filled]), torch.cat([source, filled])
        values = torch.cat([values, values.new_zeros(1, values.shape[1])])
        width = math.prod(window.kernel_size) * values.shape[1]
        return values.index_select(0, found.inputs).reshape(len(outputs.row_indices), width)

    def at(self, held: VisibleMap) -> "Rows":
        """The rows of fewer positions, where a sum or the like keeps fewer than this operand has."""
        if self.held is held:
            return self
        wanted = held.positions.flatten()[self.held.row_indices]
        return Rows(self.values[wanted], self.visible, held, self.cache)


def find_window_rows(held: VisibleMap, outputs: VisibleMap, window: Window) -> WindowRows:
    """Rows under the window of each output.

    Args:
        held: positions of the input, in the order of their rows; all its visible ones.
        outputs: positions of the output that are computed.
        window: of the operation.
    """
    batch, _, height, width = held.positions.shape
    row_of = torch.full((batch * height * width,), -1, device=held.positions.device)
    count = len(held.row_indices)
    row_of[held.row_indices] = torch.arange(count, device=row_of.device)
    rings = []
    for ring in held.padding_rows(_rings(held, outputs, window)):
        rings.append(replace(ring, neighbours=row_of[ring.neighbours]))
        row_of[ring.rows] = torch.arange(count, count + len(ring.rows), device=row_of.device)
        count += len(ring.rows)
    row_of[row_of < 0] = count
    framed = F.pad(row_of.reshape(batch, height, width), window.padding, value=count)
    rows, columns = outputs.positions.shape[2:]
    place = outputs.row_indices
    image, row, column = place // (rows * columns), place // columns % rows, place % columns
    corner = (image * framed.shape[1] + row * window.stride[0]) * framed.shape[2] + column * window.stride[1]
    down, across = (torch.arange(size, device=place.device) for size in window.kernel_size)
    offsets = down[:, None] * window.dilation[0] * framed.shape[2] + across * window.dilation[1]
    return WindowRows(rings, framed.flatten()[corner[:, None] + offsets.flatten()].flatten())


def _rings(held: VisibleMap, outputs: VisibleMap, window: Window) -> int:
    """Half as many where the centre of every window is visible."""
    at_centre = held.window(Window((1, 1), window.stride))
    return window.rings // 2 if window.is_centred and outputs is at_centre else window.rings
