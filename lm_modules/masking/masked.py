"""What flows through a masked network: features together with the positions of them that are visible.

`visible` does not depend on the features, so everything that follows from it (the masks of later layers, padding plans)
is computed once in a forward pass and kept with it: layers that see the same `VisibleMap` share the work.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from lm_modules.masking import functional
from lm_modules.masking.rows import RingRows, pad_rows, ring_rows, row_indices

MergeRule = Literal["intersection", "union"]


@dataclass(frozen=True)
class MaskingOptions:
    """How a network is masked.

    Attributes:
        merge: which positions are visible after a residual sum: those visible in both branches (the paper), or in
            either branch, a hidden branch counting as 0.
        detach_padding: values that neighbour padding fills in carry no gradient (the paper).
    """

    merge: MergeRule = "intersection"
    detach_padding: bool = True


@dataclass(eq=False)
class VisibleMap:
    """The visible positions at one resolution, with what has been derived from them so far.

    Attributes:
        positions: (B, 1, H, W) bool, True where visible.
        options: how the network is masked; handed on to every derived map.
    """

    positions: Tensor
    options: MaskingOptions
    _rings: dict[int, list[tuple[Tensor, Tensor]]] = field(default_factory=dict, repr=False)
    _ring_rows: dict[int, list[RingRows]] = field(default_factory=dict, repr=False)
    _windows: dict[tuple[object, ...], "VisibleMap"] = field(default_factory=dict, repr=False)
    _row_indices: Tensor | None = field(default=None, repr=False)
    _shows_its_input: bool = field(default=False, repr=False)

    @property
    def everything(self) -> bool:
        """Whether nothing is hidden. Always False while compiling, where the answer would have to be a constant."""
        if torch.compiler.is_compiling():
            return False
        return len(self.row_indices) == self.positions.numel()

    @property
    def row_indices(self) -> Tensor:
        """Rows of the visible positions, as in `rows.row_indices`."""
        if self._row_indices is None:
            self._row_indices = row_indices(self.positions)
        return self._row_indices

    def rings(self, count: int) -> list[tuple[Tensor, Tensor]]:
        """The padding plan of `functional.neighbour_rings`."""
        if count not in self._rings:
            self._rings[count] = functional.neighbour_rings(self.positions, count)
        return self._rings[count]

    def ring_rows(self, count: int) -> list[RingRows]:
        """The padding plan of `rows.ring_rows`."""
        if count not in self._ring_rows:
            self._ring_rows[count] = ring_rows(self.positions, count)
        return self._ring_rows[count]

    def window(
        self,
        kernel_size: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int, int, int],
        dilation: tuple[int, int],
        *,
        ceil_mode: bool = False,
    ) -> "VisibleMap":
        """The map after a convolution or pool; see `functional.propagate_visible`."""
        if kernel_size == stride == (1, 1) and padding == (0, 0, 0, 0):
            return self
        key = (kernel_size, stride, padding, dilation, ceil_mode)
        if key not in self._windows:
            positions = functional.propagate_visible(
                self.positions, kernel_size, stride, padding, dilation, ceil_mode=ceil_mode
            )
            aligned = stride == (1, 1) and padding[2] % dilation[0] == 0 and padding[0] % dilation[1] == 0
            shows_its_input = aligned and positions.shape == self.positions.shape
            self._windows[key] = VisibleMap(positions, self.options, _shows_its_input=shows_its_input)
        return self._windows[key]

    def merge(self, other: "VisibleMap") -> "VisibleMap":
        """The map after a residual sum of two branches, by the options' merge rule.

        Windows of stride 1 show all that their input shows, so the merge of such a branch with its input is one of the
        two: with the intersection rule all blocks of a ResNet stage share one map, and its plans.
        """
        intersection = self.options.merge == "intersection"
        if self._lies_within(other):
            return self if intersection else other
        if other._lies_within(self):
            return other if intersection else self
        combine = torch.logical_and if intersection else torch.logical_or
        return VisibleMap(combine(self.positions, other.positions), self.options)

    def _lies_within(self, other: "VisibleMap") -> bool:
        """Whether `other` is this map or follows from it by windows that show all their input; false says nothing."""
        grown = (window for window in self._windows.values() if window._shows_its_input)
        return other is self or any(window._lies_within(other) for window in grown)


@dataclass(frozen=True, eq=False)
class Masked:
    """Features of which only some positions are visible. Values at hidden positions are finite and mean nothing.

    Attributes:
        features: (B, C, H, W) float.
        visible: the visible positions at the resolution of `features`.
    """

    features: Tensor
    visible: VisibleMap

    def with_hidden_zero(self) -> Tensor:
        """The features with 0 at hidden positions, (B, C, H, W)."""
        if self.visible.everything:
            return self.features
        return functional.hide(self.features, self.visible.positions)

    def with_neighbour_padding(self, count: int) -> Tensor:
        """The features with `count` rings of hidden positions filled from their neighbours, (B, C, H, W)."""
        if count == 0 or self.visible.everything:
            return self.features
        detach_padding = self.visible.options.detach_padding
        if torch.compiler.is_compiling():
            plan = self.visible.rings(count)
            positions = self.visible.positions
            return functional.neighbour_padding(self.features, positions, plan, detach_padding=detach_padding)
        return pad_rows(self.features, self.visible.ring_rows(count), detach_padding=detach_padding)
