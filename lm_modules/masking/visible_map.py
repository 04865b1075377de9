"""The visible positions at one resolution, and all that follows from them: maps of later layers, plans of padding.

None of it depends on features, so it is computed once in a forward pass and kept with the map: layers that see the same
`VisibleMap` share the work.
"""

import math
import operator
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from maskrobust.lm_modules.masking import functional
from maskrobust.lm_modules.masking.batch_norm import VisibleFraction
from maskrobust.lm_modules.masking.morphology import (
    PADDINGS,
    PaddingRows,
    can_be_read,
    output_size,
    propagate_visible,
    row_indices,
)

MergeRule = Literal["intersection", "union"]
PaddingRule = Literal["mean", "mirror"]
Padding = tuple[int, int, int, int]


class Window(NamedTuple):
    """What a convolution or a pool slides over the image.

    Attributes:
        kernel_size: (height, width).
        stride: (vertical, horizontal), as are all pairs.
        padding: at (left, right, top, bottom), the order of `torch.nn.functional.pad`.
        dilation: steps between the positions that the window reads.
        ceil_mode: as in `torch.nn.MaxPool2d`.
    """

    kernel_size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    ceil_mode: bool = False

    @property
    def rings(self) -> int:
        """Rings of neighbour padding that make every output exact that stays visible.

        Such an output reads inputs at most (kernel - 1) x dilation positions from a visible one along each axis.
        """
        (height, width), (vertical, horizontal) = self.kernel_size, self.dilation
        return max((height - 1) * vertical, (width - 1) * horizontal)

    def may_miss(self, height: int, width: int) -> bool:
        """Whether a window may read none of the positions of an image: all that it reads may lie in the padding."""
        left, right, top, bottom = self.padding
        axes = zip((height, width), (max(top, bottom), max(left, right)), self.kernel_size, self.dilation, strict=True)
        return any(frame > (kernel - 1) * step or step > size for size, frame, kernel, step in axes)

    @property
    def reads_its_place(self) -> bool:
        """Whether output (i, j) reads the input at (i, j) times the stride, as a window of 1 x 1 does."""
        starts = zip((self.padding[2], self.padding[0]), self.kernel_size, self.dilation, strict=True)
        return all(start % step == 0 and start <= (size - 1) * step for start, size, step in starts)


@dataclass(frozen=True)
class MaskingOptions:
    """How a network is masked.

    Attributes:
        merge: which positions are visible after a residual sum: those visible in both branches (the paper), or in
            either branch, a hidden branch counting as 0.
        detach_padding: values filled in beside visible positions carry no gradient (the paper).
        padding: what these values are: the mean of known neighbours, ring by ring (the paper), or the features mirrored
            at the edge of the hole.
    """

    merge: MergeRule = "intersection"
    detach_padding: bool = True
    padding: PaddingRule = "mean"


@dataclass(eq=False)
class VisibleMap:
    """The visible positions at one resolution, with what has been derived from them so far.

    Attributes:
        positions: (B, 1, H, W) bool, True where visible.
        options: how the network is masked; handed on to every derived map.
        size: (B, H, W).
    """

    positions: Tensor
    options: MaskingOptions
    _plans: dict[Hashable, Any] = field(default_factory=dict, repr=False)
    _derived: dict[Hashable, "VisibleMap"] = field(default_factory=dict, repr=False)
    _within: list["VisibleMap"] = field(default_factory=list, repr=False)
    _within_strides: dict[Window, list["VisibleMap"]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.size = self.positions.shape[0], *self.positions.shape[2:]
        self._may_be_read = can_be_read(self.positions)

    @property
    def may_be_read(self) -> bool:
        """Whether Python may ask what the positions are.

        See `morphology.can_be_read`.
        """
        return self._may_be_read

    @property
    def everything(self) -> bool:
        """Whether nothing is hidden, as far as that may be asked."""
        return self.may_be_read and self.is_all_visible

    @cached_property
    def is_all_visible(self) -> bool:
        """Whether nothing is hidden."""
        return bool(self.positions.all())

    @property
    def hidden_images(self) -> Tensor:
        """(B,) bool: images of which nothing is visible."""
        return ~self.positions.flatten(1).any(dim=1)

    @property
    def whole_images(self) -> Tensor:
        """(B,) bool: images of which nothing is hidden."""
        return self.positions.flatten(1).all(dim=1)

    @cached_property
    def hidden_row_indices(self) -> Tensor:
        """Rows of the hidden positions."""
        return row_indices(~self.positions)

    @property
    def number(self) -> int:
        """How many positions are visible."""
        return self.positions.numel() - len(self.hidden_row_indices)

    @property
    def counts(self) -> Tensor:
        """(B, 1) int64: visible positions of each image, or 1 where nothing is visible."""
        return self.positions.sum(dim=(2, 3)).clamp(min=1)

    def fraction(self, dtype: torch.dtype) -> VisibleFraction:
        """What batch norm of features of one dtype needs on an accelerator; computed once."""
        if dtype not in self._plans:
            self._plans[dtype] = VisibleFraction.of(self.positions, dtype)
        fraction: VisibleFraction = self._plans[dtype]
        return fraction

    @cached_property
    def counts_as_numbers(self) -> Tensor:
        """`counts` in float32."""
        return self.counts.to(torch.float32)

    @cached_property
    def as_numbers(self) -> Tensor:
        """(B, 1, H x W) float32: 1 at visible positions, 0 at hidden ones."""
        return self.positions.flatten(2).to(torch.float32)

    def positions_along(self, axes: tuple[int, int, int], ndim: int) -> Tensor:
        """The positions in a shape that broadcasts against features whose images, height and width are these axes."""
        if axes == (0, 2, 3) and ndim == 4:
            return self.positions
        shape = [1] * ndim
        for axis, size in zip(axes, self.size, strict=True):
            shape[axis] = size
        return self.positions.reshape(shape)

    def pad(self, features: Tensor, rings: int) -> Tensor:
        """Features (B, C, H, W) with hidden positions filled as far as some rings reach; planned once."""
        plan_padding, pad = _PADDINGS[self.options.padding]
        if rings not in self._plans:
            self._plans[rings] = plan_padding(self.positions, rings)
        return pad(features, self.positions, self._plans[rings], detach_padding=self.options.detach_padding)

    def padding_rows(self, rings: int) -> list[PaddingRows]:
        """The plan of `morphology.PADDINGS`; made once."""
        if rings not in self._plans:
            self._plans[rings] = PADDINGS[self.options.padding](self.positions, rings)
        plan: list[PaddingRows] = self._plans[rings]
        return plan

    def window(self, window: Window) -> "VisibleMap":
        """The map after a convolution or pool; see `functional.propagate_visible`, and `derive` for whole images."""
        if window == _SINGLE_POSITION:
            return self
        known = self._derived.get(window)
        if known is not None:
            return known
        if window.may_miss(*self.size[1:]):
            whole = self.whole_images[:, None, None, None]
            positions = propagate_visible(self.positions, *window) | whole
        else:
            positions = propagate_visible(self.positions, *window)
        derived = self._derived[window] = VisibleMap(positions, self.options)
        single = Window((1, 1), window.stride)
        larger = self._within if single == _SINGLE_POSITION else self._within_strides.setdefault(single, [])
        if window == single:
            derived._within = larger
        elif window.reads_its_place and [*derived.size[1:]] == output_size(self.size[1:], *single):
            larger.append(derived)
        return derived

    def is_whole_under(self, window: Window) -> bool:
        """Whether each window sees all of its positions or none, as the 4 x 4 windows of a stem do of patches."""
        size = window.kernel_size
        if window != Window(size, size) or any(map(operator.mod, self.size[1:], size)) or not self.may_be_read:
            return False
        seen = self.window(window).positions.count_nonzero()
        return bool(seen * math.prod(size) == self.positions.count_nonzero())

    def derive(self, key: Hashable, spread: Callable[[Tensor], Tensor], *, least: float = 0.0) -> "VisibleMap":
        """The map of positions that are made from visible ones, computed once for each key.

        An image of which nothing is hidden stays so, whatever is added around it: what is computed from all of it is
        what the plain network computes.

        Args:
            key: names the function and its settings.
            spread: linear, from (B, 1, H, W) float32 to (B, 1, H', W') float32: of each new position the sum of the
                numbers at the positions that it is made from, each times a weight of at least 0.
            least: sum of the weights of visible positions above which a new position is visible.
        """
        if key not in self._derived:
            whole = self.whole_images[:, None, None, None]
            self._derived[key] = VisibleMap((spread(self.positions.float()) > least) | whole, self.options)
        return self._derived[key]

    def merge(self, *others: "VisibleMap", intersection: bool | None = None) -> "VisibleMap":
        """The positions visible in all maps, or in any; after a residual sum that is the options' merge rule.

        Windows show all that those of 1 x 1 and the same stride show, the input itself for stride 1, so the merge of
        such branches is one of the two: with the intersection rule all blocks of a ResNet stage share one map, and its
        plans.

        Args:
            others: of the same size.
            intersection: False for the union; None for what the options say.
        """
        intersection = self.options.merge == "intersection" if intersection is None else intersection
        merged = self
        if any(other.size != self.size for other in others):
            merged, *rest = self._broadcast(others)
            others = tuple(rest)
        combine = torch.logical_and if intersection else torch.logical_or
        for other in others:
            if merged._lies_within(other):
                merged = merged if intersection else other
            elif other._lies_within(merged):
                merged = other if intersection else merged
            else:
                merged = VisibleMap(combine(merged.positions, other.positions), self.options)
        return merged

    def _broadcast(self, others: "Sequence[VisibleMap]") -> "list[VisibleMap]":
        """This map and others in the size that one alike along an axis of size 1 is repeated to."""
        height, width = (max(each.size[axis] for each in (self, *others)) for axis in (1, 2))
        return [each.expanded(height, width) for each in (self, *others)]

    def on(self, device: torch.device) -> "VisibleMap":
        """The map on another device."""
        if self.positions.device == device:
            return self
        return self.derive(("device", device), lambda numbers: numbers.to(device))

    def expanded(self, height: int, width: int) -> "VisibleMap":
        """The map with an axis of size 1 repeated."""
        if self.size[1:] == (height, width):
            return self
        return self.derive(("expand", height, width), lambda numbers: numbers.expand(-1, -1, height, width))

    def concatenated(self, others: "Sequence[VisibleMap]", axis: int) -> "VisibleMap":
        """Maps side by side, along axis 2 or 3."""
        return VisibleMap(torch.cat([self.positions, *(other.positions for other in others)], axis), self.options)

    def _lies_within(self, other: "VisibleMap") -> bool:
        """Whether `other` is known to show all that this map shows; false says nothing."""
        return other is self or any(larger._lies_within(other) for larger in self._within)


_SINGLE_POSITION = Window((1, 1))
_PADDINGS: dict[str, tuple[Callable[..., Any], Callable[..., Tensor]]] = {
    "mean": (functional.neighbour_rings, functional.neighbour_padding),
    "mirror": (functional.mirrored_places, functional.mirrored_padding),
}
