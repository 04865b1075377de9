"""`VisibleMap`: the visible positions at one resolution, and the maps of later layers that follow from them.

None of it depends on features, so it is computed once in a forward pass and kept with the map: layers that see the same
`VisibleMap` share the work.
"""

import math
import operator
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from maskrobust.errors import InputError
from maskrobust.lm_modules.masking import functional, kernels
from maskrobust.lm_modules.masking.arrangement import Places
from maskrobust.lm_modules.masking.axes import (
    Axes,
    Padding,
    Sizes,
    after,
    before,
    beside,
    images_first,
    padding_of,
    symmetric,
    tuple_of,
)
from maskrobust.lm_modules.masking.morphology import (
    PADDINGS,
    PaddingPlan,
    RowPlan,
    can_inspect,
    output_size,
    pad_in_run,
    pad_rows,
    padding_kernels,
    propagate_visible,
    row_indices,
    to_rows,
    zero_rows,
)
from maskrobust.lm_modules.masking.torch_private import is_traced

MergeRule = Literal["intersection", "union"]
PaddingRule = Literal["mean", "mirror", "zeros"]
PartialPatches = Literal["padded", "hidden"]


class DependsOnSize(Exception):  # noqa: N818
    """A rule cannot compute images of several sizes together, so each size is to be computed by itself."""


class Window(NamedTuple):
    """What a convolution or a pool slides over the image.

    Attributes:
        kernel_size: a number for each axis of positions, as are all but the padding: (height, width) for images.
        stride: likewise.
        padding: in the order of `torch.nn.functional.pad`.
        dilation: steps between the positions that the window reads.
        ceil_mode: as in `torch.nn.MaxPool2d`.
    """

    kernel_size: Sizes
    stride: Sizes
    padding: Padding
    dilation: Sizes
    ceil_mode: bool = False

    @classmethod
    def of(
        cls, axes: int, kernel_size: int | Sizes, stride: int | Sizes = 1, padding: int | Padding | str = 0,
        dilation: int | Sizes = 1, ceil_mode: bool = False,
    ) -> "Window":  # fmt: skip
        """A window over so many axes, with settings as torch takes them: "same" puts the odd position behind.

        A padding may also be given ahead of and behind each axis, as the attribute is.
        """
        size, step, spread = (tuple_of(each, axes) for each in (kernel_size, stride, dilation))
        if padding == "same":
            rooms = [(length - 1) * apart for length, apart in zip(size, spread, strict=True)]
            frame = padding_of([room // 2 for room in rooms], [room - room // 2 for room in rooms])
        else:
            given = 0 if isinstance(padding, str) else padding
            frame = given if isinstance(given, tuple) and len(given) == 2 * axes else symmetric(given, axes)
        return cls(size, step, frame, spread, ceil_mode)

    @property
    def rings(self) -> int:
        """Rings of neighbour padding that make every output exact that stays visible.

        Such an output reads inputs at most (kernel - 1) x dilation positions from a visible one along each axis.
        """
        if max(self.dilation) == 1:
            return max(self.kernel_size) - 1
        return max((kernel - 1) * step for kernel, step in zip(self.kernel_size, self.dilation, strict=True))

    def may_miss(self, *size: int) -> bool:
        """Whether a window may read none of the positions of an image: all that it reads may lie in the padding."""
        axes = zip(size, before(self.padding), after(self.padding), self.kernel_size, self.dilation, strict=True)
        for length, ahead, behind, kernel, step in axes:
            reach = (kernel - 1) * step
            reads_its_place = ahead % step == 0 and ahead + behind <= reach and not self.ceil_mode
            if max(ahead, behind) > reach or (step > length and not reads_its_place):
                return True
        return False

    def extent_after(self, extent: Tensor) -> Tensor:
        """The sizes (B, n) of the results for images of these sizes (B, n)."""
        ahead, behind, kernel, step, stride = (
            extent.new_tensor(each)
            for each in (before(self.padding), after(self.padding), self.kernel_size, self.dilation, self.stride)
        )
        room = extent + ahead + behind - (kernel - 1) * step - 1
        if self.ceil_mode:
            return torch.minimum(_ceil(room, stride) + 1, _ceil(extent + ahead, stride))
        return room.div(stride, rounding_mode="floor") + 1

    @property
    def radius(self) -> int | None:
        """How far from its own place an output reads all inputs along each axis, at most `kernels.MOST_RINGS`, or None.

        None where it reads farther along one axis, or on one side, than along another, or not all.
        """
        radius = self.kernel_size[0] // 2
        is_cube = self == Window.of(len(self.stride), 2 * radius + 1, self.stride, radius)
        return radius if is_cube and radius <= kernels.MOST_RINGS else None

    @property
    def reads_beyond(self) -> bool:
        """Whether a window of a result reads beyond its image."""
        return any(self.padding) or self.ceil_mode

    @property
    def reads_its_place(self) -> bool:
        """Whether output (i, j) reads the input at (i, j) times the stride, as a window of 1 x 1 does."""
        starts = zip(before(self.padding), self.kernel_size, self.dilation, strict=True)
        return all(start % step == 0 and start <= (size - 1) * step for start, size, step in starts)


class Asked(NamedTuple):
    """What a pass has asked of a map.

    Attributes:
        rings: of each plan of padding, the most first.
        later: what it has asked of the maps after windows.
    """

    rings: list[int]
    later: "dict[Window, Asked]"


@dataclass(frozen=True)
class MaskingOptions:
    """How a network is masked.

    Attributes:
        merge: which positions are visible after a residual sum: those visible in both branches (the paper), or in
            either branch, a hidden branch counting as 0.
        detach_padding: values filled in beside visible positions carry no gradient (the paper).
        padding: what these values are: the mean of known neighbours, ring by ring (the paper), the features mirrored at
            the edge of the hole, or 0.
        partial_patches: what becomes of a patch that is partly hidden, where a network begins with patches: its hidden
            pixels are padded, or it is hidden as a whole. "padded" from there on.
        windows: how many windows of each image the batch of a map holds, where windows are taken for images.

    Raises:
        InputError: naming an option that is none of its choices.
    """

    merge: MergeRule = "intersection"
    detach_padding: bool = True
    padding: PaddingRule = "mean"
    partial_patches: PartialPatches = "padded"
    windows: int = 1

    def __post_init__(self) -> None:
        for name, rule in (("merge", MergeRule), ("padding", PaddingRule), ("partial_patches", PartialPatches)):
            if (given := getattr(self, name)) not in get_args(rule):
                raise InputError(f"{name} must be one of {', '.join(get_args(rule))}, got '{given}'; choose one.")


@dataclass(eq=False)
class VisibleMap:
    """The visible positions at one resolution, with what has been derived from them so far.

    Attributes:
        positions: (B, 1, *size) bool, True where visible.
        options: how the network is masked; handed on to every derived map.
        extent: (B, n) int64, size of each image in positions, at the top left; None where all have the size
            of the map. What lies beyond is no place of the image and never visible. On a CPU but for compiled code.
        is_whole: whether each image is known to be all visible within its extent.
        frame: (1 or B, 1, *size) bool, what a network has put around its images by itself, such as zeros that it pads,
            and what is computed from nothing else: known values that are no place of an image. They are neither
            visible nor hidden: never filled, and read by no padding of holes. None for none. It follows from sizes
            alone, never from what is visible. On a CPU but for compiled code.
        known: (B, 1, *size) bool, what is visible or in the frame: where features have a value of their own.
        size: (B, *size), such as (B, H, W).
        axes: of the images and positions in (B, C, *size).
        can_inspect: whether it can be inspected without a device sync or a graph break; see `morphology.can_inspect`.
        uses_kernels: whether kernels of a GPU compute on it; see `kernels.serve`.
    """

    positions: Tensor
    options: MaskingOptions
    extent: Tensor | None = None
    is_whole: bool = False
    frame: Tensor | None = None
    _plans: dict[Hashable, Any] = field(default_factory=dict, repr=False)
    _derived: dict[Hashable, "VisibleMap"] = field(default_factory=dict, repr=False)
    _within: list["VisibleMap"] = field(default_factory=list, repr=False)
    _within_strides: dict[Window, list["VisibleMap"]] = field(default_factory=dict, repr=False)
    _inside: Tensor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.size = self.positions.shape[0], *self.positions.shape[2:]
        self.known = self.positions if self.frame is None else self.positions | self.frame.to(self.positions.device)
        self.axes: Axes = images_first(self.positions.ndim - 2)
        self.can_inspect = can_inspect(self.positions)
        self.uses_kernels = not self.can_inspect and kernels.serve(self.positions)

    @classmethod
    def within(
        cls, extent: Tensor, size: Sizes, options: MaskingOptions, positions: Tensor | None, device: torch.device,
        frame: Tensor | None = None,
    ) -> "VisibleMap":  # fmt: skip
        """The map of images of several sizes.

        Args:
            extent: (B, 2) int64.
            size: of the map, such as (H, W).
            options: of masking.
            positions: (B, 1, H, W) bool, that may be seen as far as they lie within the extent; None for all.
            device: of the positions.
            frame: within the extent, too.
        """
        inside = within_extent(extent, size, device)
        shown = inside if positions is None else positions & inside
        if frame is not None:
            shown = shown & ~frame.to(device)
        return cls(shown, options, extent, is_whole=positions is None, frame=frame)

    @property
    def image(self) -> Tensor:
        """(1 or B, 1, *size) bool: the places of the images, without the frame; on a CPU where values are at hand."""
        has_values = not (torch.compiler.is_compiling() or self.positions.is_meta)
        device = torch.device("cpu") if has_values else self.positions.device
        if self.extent is None:
            places = torch.ones(1, 1, *self.size[1:], dtype=torch.bool, device=device)
        else:
            places = within_extent(self.extent, self.size[1:], device)
        return places if self.frame is None else places & ~self.frame

    @property
    def inside(self) -> Tensor | None:
        """(B, 1, H, W) bool: the places of the images, without the frame; None for all."""
        if self.is_whole:
            return self.positions
        if self._inside is None and (self.extent is not None or self.frame is not None):
            self._inside = self.image.to(self.positions.device).expand_as(self.positions)
        return self._inside

    def cut(self, features: Tensor, value: float = 0.0) -> Tensor:
        """Features (B, C, H, W) with a value outside of the images."""
        if self.extent is None:
            return features
        device = self.positions.device
        inside = self.inside if self.frame is None else within_extent(self.extent, self.size[1:], device)
        assert inside is not None
        return torch.where(inside, features, value)

    @property
    def everything(self) -> bool:
        """Whether nothing is hidden, as far as it is known or the mask can be inspected."""
        return (self.is_whole and self.extent is None) or (self.can_inspect and self.is_all_visible)

    @cached_property
    def is_all_visible(self) -> bool:
        """Whether nothing is hidden; looked at with NumPy, which stops at the first hidden position."""
        return bool(self.known.numpy().all())

    @property
    def places(self) -> Places:
        """The positions in no order of their own, for features that are no map; made once.

        What is in the frame is visible there, as the tokens of a network's own.
        """
        if "places" not in self._plans:
            self._plans["places"] = Places(self.known[:, 0], self, is_map=True, windows=self.options.windows)
        places: Places = self._plans["places"]
        return places

    def alike(self, positions: Tensor, windows: int = 1) -> "VisibleMap":
        """A map of other positions, with so many windows for each image."""
        return VisibleMap(positions, replace(self.options, windows=windows))

    @cached_property
    def row_indices(self) -> Tensor:
        """Rows of the known positions."""
        return row_indices(self.known)

    @cached_property
    def hidden_row_indices(self) -> Tensor:
        """Rows of the hidden positions."""
        return row_indices(~self.known)

    def zero_hidden(self, features: Tensor) -> None:
        """Write 0 into the hidden positions of channels-last features (B, C, *size); see `uses_kernels`."""
        if self.can_inspect:
            zero_rows(to_rows(features), self.hidden_row_indices)
        else:
            padding_kernels().zero_hidden(features, self.known)

    @property
    def number(self) -> int:
        """How many positions are known."""
        return self.positions.numel() - len(self.hidden_row_indices)

    @property
    def counts(self) -> Tensor:
        """(B, 1) int64: known positions of each image, or 1 where nothing is known."""
        return self.known.flatten(2).sum(dim=2).clamp(min=1)

    @cached_property
    def counts_as_numbers(self) -> Tensor:
        """`counts` in float32."""
        return self.as_numbers.sum(dim=2).clamp(min=1)

    @cached_property
    def as_numbers(self) -> Tensor:
        """(B, 1, H x W) float32: 1 at known positions, 0 at hidden ones."""
        return self.known.flatten(2).to(torch.float32)

    def positions_along(self, axes: Axes, ndim: int) -> Tensor:
        """`known` in a shape that broadcasts against features whose images, height and width are these axes."""
        if axes == self.axes and ndim == self.known.ndim:
            return self.known
        shape = [1] * ndim
        for axis, size in zip(axes, self.size, strict=True):
            shape[axis] = size
        return self.known.reshape(shape)

    def pad(self, features: Tensor, rings: int, *, owns_gradient: bool = False) -> Tensor:
        """Features (B, C, H, W) with hidden positions filled as far as some rings reach; planned once.

        By rows in eager code on a CPU or with kernels, in one operation in compiled code, else everywhere.

        Args:
            features: read at visible positions only, but for those in the frame, which stay as they are.
            rings: at least 1.
            owns_gradient: whether one convolution alone takes the result; see `morphology.pad_rows`.
        """
        rule, detach_padding = self.options.padding, self.options.detach_padding
        if self.can_inspect or (self.uses_kernels and self._suits_kernels(rings)):
            plan = self.padding_plan(rings)
            return pad_rows(features, plan, detach_padding=detach_padding, owns_gradient=owns_gradient)
        has_kernels = kernels.are_on(self.positions.device.type) and self._suits_kernels(rings)
        if is_traced() and detach_padding and (self.positions.device.type == "cpu" or has_kernels):
            filled = pad_in_run(features, self.positions, self.inside, rings, rule)
        else:
            plan_padding, pad = _PADDINGS[rule]
            if rings not in self._plans:
                self._plans[rings] = plan_padding(self.positions, rings, self.inside)
            filled = pad(features, self.positions, self._plans[rings], detach_padding=detach_padding)
        return filled if self.frame is None else torch.where(self.frame.to(filled.device), features, filled)

    def _suits_kernels(self, rings: int) -> bool:
        """Whether there are kernels for the options and axes, and for so many rings."""
        is_paper = self.options.padding == "mean" and self.options.detach_padding
        is_image = self.extent is None and self.frame is None
        return is_paper and is_image and self.positions.ndim < 5 and rings <= kernels.MOST_RINGS

    def padding_plan(self, rings: int) -> PaddingPlan:
        """The plan of padding for eager code that fills only the positions that rings reach; made once."""
        if rings not in self._plans:
            self._plans[rings] = (
                self._planned_rows(rings)
                if self.can_inspect
                else padding_kernels().RingMap(self._distances(rings), rings)
            )
        plan: PaddingPlan = self._plans[rings]
        return plan

    def _planned_rows(self, rings: int) -> RowPlan:
        """The plan as rows: of neighbour padding the first rings of a longer plan, where there is one."""
        longer = [plan for count, plan in self._plans.items() if isinstance(count, int) and count > rings]
        if longer and self.options.padding == "mean":
            return RowPlan(longer[0][:rings])
        return PADDINGS[self.options.padding](self.positions, rings, self.inside)

    def _distances(self, reach: int) -> Tensor:
        """From each position to the nearest visible one, where kernels compute; see `kernels.padding`."""
        known_reach, distances = self._plans.get("distances", (0, self.positions))
        if known_reach < reach:
            distances = padding_kernels().distances_up_to(reach, self.positions)
            self._plans["distances"] = reach, distances
        return distances  # type: ignore[no-any-return]

    def _propagated(self, window: Window) -> Tensor:
        """See `functional.propagate_visible`; from distances where kernels have computed or compute them."""
        radius = window.radius if self.uses_kernels else None
        if radius is None:
            return propagate_visible(self.positions, *window)
        numbers = self._distances(radius) if radius else ~self.positions
        for axis, step in enumerate(window.stride, 2):
            numbers = numbers.movedim(axis, 0)[::step].movedim(0, axis)
        return numbers <= radius

    def window(self, window: Window) -> "VisibleMap":
        """The map after a convolution or pool; see `functional.propagate_visible`, and `derive` for whole images."""
        single_position = _SINGLE_POSITION[len(window.kernel_size)]
        if window == single_position:
            return self
        known = self._derived.get(window)
        if known is not None:
            return known
        if self.options.partial_patches == "hidden":
            return self._derived.setdefault(window, self._whole_patches(window))
        extent = None if self.extent is None else window.extent_after(self.extent)
        derived = self._derived[window] = self._after(self._propagated(window), extent, self._frame_after(window))
        single = single_position._replace(stride=window.stride)
        larger = self._within if single == single_position else self._within_strides.setdefault(single, [])
        if window == single:
            derived._within = larger
        elif window.reads_its_place and self._has_size_after(single, derived):
            larger.append(derived)
        return derived

    @property
    def asked(self) -> Asked:
        """What has been planned so far: rings of padding and windows."""
        rings = sorted([each for each in self._plans if isinstance(each, int)], reverse=True)
        later = {window: each.asked for window, each in self._derived.items() if isinstance(window, Window)}
        return Asked(rings, later)

    def plan(self, asked: Asked) -> None:
        """Plan at once what a pass with another mask of this size has asked; what else one asks is planned then.

        Spread through a pass the same takes longer, for in between convolutions empty the caches.
        """
        if not self.can_inspect or self.extent is not None:
            return
        for rings in [] if self.everything else asked.rings:
            self.padding_plan(rings)
        for window, each in asked.later.items():
            self.window(window).plan(each)

    def _frame_after(self, window: Window) -> Tensor | None:
        """Where windows read nothing but the frame and the padding of their own."""
        least = self.size[1:] if self.extent is None else (1,) * len(window.stride)
        if self.frame is None and not window.may_miss(*least):
            return None
        return ~propagate_visible(self.image, *window)

    def _whole_patches(self, window: Window) -> "VisibleMap":
        """The map of patches, of which only those are visible that are so as a whole."""
        after = self.options_after(window)
        extent, frame = None if self.extent is None else window.extent_after(self.extent), self._frame_after(window)
        positions = ~propagate_visible(~self.known, *window)
        patches = self._after(positions if frame is None else positions & ~frame.to(positions.device), extent, frame)
        patches.options = after
        return patches

    def options_after(self, window: Window) -> MaskingOptions:
        """The options behind a convolution or pool: patches have been looked at once, by the first.

        Raises:
            NotImplementedError: partly visible patches are to be hidden, but the network does not begin with patches.
        """
        if self.options.partial_patches == "padded":
            return self.options
        if window != Window.of(len(window.stride), window.kernel_size, window.kernel_size):
            raise NotImplementedError(
                "partial_patches='hidden' needs a network that begins with patches, by a convolution whose stride is "
                f"its kernel, got a kernel of {window.kernel_size} with stride {window.stride}; leave it 'padded'."
            )
        return replace(self.options, partial_patches="padded")

    def _after(self, positions: Tensor, extent: Tensor | None, frame: Tensor | None) -> "VisibleMap":
        """A later map; without a frame that is known to be empty."""
        if 0 in positions.shape[2:]:
            raise NotImplementedError(_TOO_SMALL.format("some image"))
        if extent is None:
            return VisibleMap(positions, self.options, is_whole=self.is_whole, frame=_if_any(frame))
        if not can_inspect(extent):
            _assert_in_run(extent > 0, _TOO_SMALL.format("some image"))
        elif (extent < 1).any():
            image = int((extent < 1).any(1).nonzero()[0])
            raise NotImplementedError(_TOO_SMALL.format(f"image {image}"))
        shown, size = None if self.is_whole else positions, tuple(positions.shape[2:])
        if frame is not None:
            frame = _if_any(frame & within_extent(extent, size, frame.device))
        return VisibleMap.within(extent, size, self.options, shown, positions.device, frame)

    def _has_size_after(self, window: Window, derived: "VisibleMap") -> bool:
        """Whether the map after a window has the size of another one, and that of each image."""
        if [*derived.size[1:]] != output_size(self.size[1:], *window):
            return False
        if self.extent is None or derived.extent is None or not can_inspect(self.extent):
            return self.extent is derived.extent
        return torch.equal(window.extent_after(self.extent), derived.extent)

    def _has_size_of(self, other: "VisibleMap") -> bool:
        """Whether another map has its size, and that of each image; the run of compiled code asserts the latter."""
        if self.size != other.size or self.extent is other.extent:
            return self.size == other.size
        known = other.extent if self.extent is None else self.extent
        assert known is not None
        own, others = (
            known.new_tensor([self.size[1:]]) if each.extent is None else each.extent for each in (self, other)
        )
        if not can_inspect(known):
            _assert_in_run(own == others, _OTHER_EXTENT)
            return True
        return bool((own == others).all())

    def is_whole_under(self, window: Window) -> bool:
        """Whether each window sees all of its positions or none, as the 4 x 4 windows of a stem do of patches."""
        size = window.kernel_size
        if self.options.partial_patches == "hidden":
            return True
        if (
            self.extent is not None
            or window != Window.of(len(size), size, size)
            or any(map(operator.mod, self.size[1:], size))
            or not self.can_inspect
        ):
            return False
        seen = self.window(window).positions.count_nonzero()
        return bool(seen * math.prod(size) == self.positions.count_nonzero())

    def derive(
        self,
        key: Hashable,
        spread: Callable[[Tensor], Tensor],
        *,
        least: float = 0.0,
        extent_after: Callable[[Tensor], Tensor] | None = None,
        adds: bool = False,
    ) -> "VisibleMap":
        """The map of positions that are made from visible ones, computed once for each key.

        Args:
            key: names the function and its settings.
            spread: linear, from (B, 1, H, W) float32 to (B, 1, H', W') float32: of each new position the sum of the
                numbers at the positions that it is made from, each times a weight of at least 0.
            least: sum of the weights of visible positions above which a new position is visible.
            extent_after: from the sizes of the images (B, 2) to those of their results, where they depend on nothing
                else and `spread` makes each position from the same ones whatever the size.
            adds: whether some new positions may be made from none: they are a frame, as are those made from one alone.

        Raises:
            DependsOnSize: the images have several sizes, and there is no `extent_after`.
        """
        if key not in self._derived:
            if self.extent is not None and extent_after is None:
                raise DependsOnSize
            extent = None if self.extent is None or extent_after is None else extent_after(self.extent)
            frame = None
            if adds or self.frame is not None:
                image = self.image
                frame = (spread(image.float()) <= least).to(image.device)
            self._derived[key] = self._after(spread(self.positions.float()) > least, extent, frame)
        return self._derived[key]

    def kept(self, key: Hashable, positions: Tensor, frame: Tensor | None) -> "VisibleMap":
        """A map of other positions that counts as made from these, so that it is planned once."""
        if key not in self._derived:
            self._derived[key] = VisibleMap(positions, self.options, frame=_if_any(frame))
        return self._derived[key]

    def merge(self, *others: "VisibleMap", intersection: bool | None = None) -> "VisibleMap":
        """The positions visible in all maps, or in any; after a residual sum that is the options' merge rule.

        What is visible in one map and in the frame of the other is visible, too; what is in both frames is a frame.

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
            size = tuple(max(lengths) for lengths in zip(*(each.size[1:] for each in (self, *others)), strict=True))
            merged, *rest = (each.expanded(*size) for each in (self, *others))  # an axis of size 1 is repeated
            others = tuple(rest)
        combine = torch.logical_and if intersection else torch.logical_or
        for other in others:
            if merged.frame is not other.frame:
                merged = merged._framed_merge(other, intersection)
                continue
            if merged.is_whole and other.is_whole and merged._has_size_of(other):
                continue
            if merged._lies_within(other):
                merged = merged if intersection else other
            elif other._lies_within(merged):
                merged = other if intersection else merged
            else:
                if not merged._has_size_of(other):
                    raise NotImplementedError(_OTHER_EXTENT)
                shown = combine(merged.positions, other.positions)
                merged = VisibleMap(shown, self.options, merged.extent, frame=merged.frame)
        return merged

    def _framed_merge(self, other: "VisibleMap", intersection: bool) -> "VisibleMap":
        """The same of two maps with other frames."""
        if not self._has_size_of(other):
            raise NotImplementedError(_OTHER_EXTENT)
        frame = None if self.frame is None or other.frame is None else _if_any(self.frame & other.frame)
        shown = self.known & other.known if intersection else self.positions | other.positions
        if frame is not None:
            shown = shown & ~frame.to(shown.device)
        return VisibleMap(shown, self.options, self.extent, self.is_whole and other.is_whole, frame)

    def on(self, device: torch.device) -> "VisibleMap":
        """The map on another device."""
        if self.positions.device == device:
            return self
        return self.derive(("device", device), lambda numbers: numbers.to(device), extent_after=lambda extent: extent)

    def expanded(self, *size: int) -> "VisibleMap":
        """The map with an axis of size 1 repeated."""
        if self.size[1:] == size:
            return self
        return self.derive(("expand", *size), lambda numbers: numbers.expand(-1, -1, *size))

    def transposed(self, order: Sequence[int]) -> "VisibleMap":
        """The map with its axes of positions in another order."""
        if [*order] == sorted(order):
            return self
        moved = (0, 1, *(2 + each for each in order))
        return self.derive(("transpose", moved), lambda numbers: numbers.permute(moved))

    def surroundings(self, axis: int, length: int) -> "VisibleMap":
        """A map that is a frame everywhere, as large as this one but along an axis from 2 on."""

        def nothing(numbers: Tensor) -> Tensor:
            return numbers.narrow(axis, 0, 1).expand(*numbers.shape[:axis], length, *numbers.shape[axis + 1 :]) * 0

        return self.derive(("surroundings", axis, length), nothing, adds=True)

    def concatenated(self, others: "Sequence[VisibleMap]", axis: int) -> "VisibleMap":
        """Maps side by side, along an axis from 2 on."""
        if any(each.extent is not None for each in (self, *others)):
            raise DependsOnSize
        maps = (self, *others)
        positions, frame = torch.cat([each.positions for each in maps], axis), None
        if any(each.frame is not None for each in maps):
            frame = ~torch.cat([each.image.expand_as(each.positions) for each in maps], axis)
        return VisibleMap(positions, self.options, is_whole=all(each.is_whole for each in maps), frame=frame)

    def _lies_within(self, other: "VisibleMap") -> bool:
        """Whether `other` is known to show all that this map shows; false says nothing."""
        return other is self or any(larger._lies_within(other) for larger in self._within)


def within_extent(extent: Tensor, size: Sizes, device: torch.device) -> Tensor:
    """Which positions lie within each image.

    Args:
        extent: (B, n) int64, size of each image.
        size: of the canvas at whose top left they lie.
        device: of the result.

    Returns:
        (B, 1, *size) bool.
    """
    lengths = beside(extent.to(device), len(size)).unbind(1)
    inside = torch.arange(size[-1], device=device) < lengths[-1]
    for behind, (length, longest) in enumerate(zip(lengths[-2::-1], size[-2::-1], strict=True), 1):
        inside = (beside(torch.arange(longest, device=device), behind) < length) & inside
    return inside[:, None]


def _if_any(frame: Tensor | None) -> Tensor | None:
    """A frame unless it is known to be empty."""
    return None if frame is None or (can_inspect(frame) and not frame.any()) else frame


def _assert_in_run(truths: Tensor, message: str) -> None:
    """Fail in the run of a compiled network unless all of the truths hold; an exported one asserts nothing."""
    if not torch.compiler.is_exporting():
        torch._assert_async(truths.all(), message)


_OTHER_EXTENT = (
    "layer masking needs operands of one size for each image, as the network alone does, but those of some image "
    "differ here; give this image to the network in a batch of its own."
)
_TOO_SMALL = (
    "layer masking needs images that are large enough for each layer, but of {} of the batch nothing is left here; "
    "leave it out, or enlarge it."
)


def _ceil(numerator: Tensor, denominator: Tensor) -> Tensor:
    return -(-numerator).div(denominator, rounding_mode="floor")


_SINGLE_POSITION = {count: Window.of(count, 1) for count in (1, 2, 3)}
_PADDINGS: dict[str, tuple[Callable[..., Any], Callable[..., Tensor]]] = {
    "mean": (functional.neighbour_rings, functional.neighbour_padding),
    "mirror": (functional.mirrored_places, functional.mirrored_padding),
}
