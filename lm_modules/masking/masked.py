"""`Masked`, a tensor that carries which of its positions are visible through a network's own forward.

`dispatch` says how functions of it are computed, and `memory` which of them share memory.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_map

from maskrobust.augment.batch import LAYOUTS
from maskrobust.lm_modules.masking import functional
from maskrobust.lm_modules.masking.arrangement import IMAGES, Arrangement, Part, Places, channels
from maskrobust.lm_modules.masking.axes import Axes, Padding, Sizes, added, is_channels_last, times
from maskrobust.lm_modules.masking.dispatch import Ruled, ruled_in
from maskrobust.lm_modules.masking.morphology import zeroed
from maskrobust.lm_modules.masking.table import UnsupportedNetworkError
from maskrobust.lm_modules.masking.torch_private import hands_on, is_view
from maskrobust.lm_modules.masking.visible_map import DependsOnSize, MaskingOptions, VisibleMap, Window


class Masked(Ruled):
    """Features of which only some positions are visible. Values at hidden positions are finite and mean nothing.

    A hook of a module is given such a tensor. Once the forward pass has returned, every function of torch takes it as a
    plain tensor with 0 at hidden positions.

    Attributes:
        rings: how many rings of neighbour padding the operation asked for that made the features.

    Raises:
        NotImplementedError: the features are no map of these positions.
    """

    rings: int
    _visible: VisibleMap | None
    _axes: Axes | None
    _arrangement: Arrangement | None

    def __new__(cls, features: Tensor, visible: VisibleMap, axes: Axes | None = None) -> "Masked":
        """Features with their visible positions.

        Args:
            features: (B, C, *size) float, or any other order of `axes`, with any number of further axes for channels.
            visible: the visible positions at the resolution of `features`.
            axes: which axes of `features` are the images, and those of their positions, ascending; None for
                (B, C, *size).
        """
        return carry(features.view_as(features), visible, axes)

    def __repr__(self) -> str:  # type: ignore[override]
        axes = self._axes if self._arrangement is None else self._arrangement.axes
        return f"Masked(shape={tuple(self.shape)}, dtype={self.dtype}, axes={axes})"

    def as_subclass(self, cls: type[Tensor]) -> Any:
        """Refused while a pass runs: torch hands it to no rule, and the mask would be lost."""
        if not hands_on():
            return super().as_subclass(cls)
        if self.run is not None and self.run.is_over:
            return self.as_plain().as_subclass(cls)
        raise UnsupportedNetworkError(
            "torch.Tensor.as_subclass makes a tensor without a mask of masked features; leave it out, or give the "
            "module around it a rule of its own with masking_rule."
        )

    # Methods that torch has written in Python, and that torch.compile does not hand to rules.
    def norm(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102
        return torch.norm(self, *args, **kwargs)

    def unflatten(self, *args: Any, **kwargs: Any) -> Any:  # noqa: D102
        return torch.unflatten(self, *args, **kwargs)

    @property
    def features(self) -> Tensor:  # type: ignore[override]
        """The same memory as a plain tensor, without the mask."""
        with torch._C.DisableTorchFunctionSubclass():
            if type(self) is Masked and not torch.compiler.is_compiling():
                return super().as_subclass(Tensor)
            return torch.ops.aten.alias(self)  # type: ignore[no-any-return]

    @property
    def is_map(self) -> bool:
        """Whether images and positions are one axis each, and no tokens, windows or attention."""
        return self._arrangement is None

    @property
    def visible(self) -> VisibleMap:
        """The map of the visible positions.

        Raises:
            NotImplementedError: they are none.
        """
        return cast(VisibleMap, self._visible) if self._arrangement is None else self._arrangement.as_map()[0]

    @visible.setter
    def visible(self, visible: VisibleMap) -> None:
        self._visible = visible

    @property
    def axes(self) -> Axes:
        """Which axes are the images and their positions, such as height and width; refused likewise."""
        return cast(Axes, self._axes) if self._arrangement is None else self._arrangement.as_map()[1]

    @property
    def options(self) -> MaskingOptions:
        """How the network is masked."""
        return self.visible.options if self._arrangement is None else self._arrangement.places.like.options

    @property
    def spatial_axes(self) -> Axes:
        """The axes of `features` that are positions, such as height and width."""
        return self.axes[1:]

    @property
    def is_images_first(self) -> bool:
        """Whether the features are (B, C, *size)."""
        return self.axes == self.visible.axes and self.ndim == len(self.axes) + 1

    def has_positions_along(self, axis: int) -> bool:
        """Whether an axis is that of images or positions."""
        return axis in self.axes if self.is_map else self.arrangement.varies(axis)

    def has_images_along(self, axis: int) -> bool:
        """Whether an axis is that of images."""
        if self.is_map:
            return axis % self.ndim == self.axes[0]
        return any(part.source == IMAGES for part in self.arrangement.kinds[axis])

    def reduced(self, axes: Sequence[int], keepdim: bool) -> Arrangement:
        """The positions once some axes have been reduced: visible where any is; without the axes, or 1 long."""
        after = self.arrangement.reduced(axes)
        return after if keepdim else after.without(axes)

    @property
    def arrangement(self) -> Arrangement:
        """The positions in the axes of the features; what is in a frame is visible there."""
        if self._arrangement is not None:
            return self._arrangement
        places, axes = self.visible.places, self.axes
        kinds = [axes.index(axis) if axis in axes else None for axis in range(self.ndim)]
        parts = [(Part(size, kind),) if size > 1 else () for size, kind in zip(self.shape, kinds, strict=True)]
        return Arrangement(places, tuple(parts))

    @property
    def positions(self) -> Tensor:
        """The visible positions and those of a frame, bool, in a shape that broadcasts against `features`."""
        if self._arrangement is not None:
            return self._arrangement.positions
        return self.visible.positions_along(self.axes, self.ndim)

    def with_features(self, features: Tensor) -> "Masked":
        """Other features at the same positions, in the same order of axes.

        They share their memory, and padding writes into it where they are hidden; clone what is to be kept.
        """
        if not isinstance(features, Masked) and not torch.compiler.is_compiling():
            features = features.view_as(features)  # others may hold the tensor, which stays a plain one
        return self.with_fresh(features)

    def with_fresh(self, features: Tensor) -> "Masked":
        """The same of features that nobody else holds, as an operation returns them; the tensor itself is masked."""
        if self._arrangement is None:
            masked = carry(features, self.visible, self.axes)
        else:
            masked = arrange(features, self._arrangement.resized(features.shape))
        masked.run = self.run
        return masked

    def with_hidden_one(self) -> Tensor:
        """The features with 1 at hidden positions, where no quotient, root, power or logarithm is infinite or NaN.

        Such a value would reach gradients, 0 though they are there: 0 times infinity is NaN.
        """
        if self.is_map and self.visible.everything:
            return self
        with torch._C.DisableTorchFunctionSubclass():
            features: Tensor = torch.where(self.positions, self, 1.0)
            return features

    def with_hidden_zero(self) -> Tensor:
        """The features with 0 at hidden positions, in the shape of `features`."""
        if self.is_map and self.visible.everything:
            return self.features
        records = torch.is_grad_enabled() if self.run is None else self.run.records
        with torch._C.DisableTorchFunctionSubclass():
            if not self.is_map:
                return self.features.masked_fill(~self.positions, 0.0)  # in the layout of the features
            if self.is_images_first and not records and (self.visible.can_inspect or self.visible.uses_kernels):
                return zeroed(self.features, self.visible.zero_hidden)
            hide = functional.hide_finite if self.is_images_first else functional.hide
            return hide(self, self.positions)

    def take_positions_of(self, other: "Masked") -> None:
        """Be where other features are, from now on."""
        self._visible, self._axes, self._arrangement = other._visible, other._axes, other._arrangement

    def as_plain(self) -> Tensor:
        """A plain tensor of its own with 0 at hidden positions."""
        with torch._C.DisableTorchFunctionSubclass():
            return functional.hide(self, self.positions)

    def of_image(self, index: int) -> Tensor:
        """The features of one image, a batch of one, with 0 at hidden positions and without what lies beyond it."""
        if not self.is_map:  # tokens, of one size
            return self.as_plain()[index : index + 1]
        with torch._C.DisableTorchFunctionSubclass():
            features, positions = (each.narrow(self.axes[0], index, 1) for each in (self.features, self.positions))
            if self.visible.extent is not None:
                for axis, length in zip(self.spatial_axes, self.visible.extent[index].tolist(), strict=True):
                    features, positions = features.narrow(axis, 0, length), positions.narrow(axis, 0, length)
            return functional.hide(features, positions)

    def mean_over_visible(self) -> Tensor:
        """The mean over visible positions, without the axes of height and width; 0 where an image has none.

        Computed in float32 at least; on a CPU as a product with the mask, unless there is an infinity to leave out.
        """
        if self._takes_products:
            ones = self.visible.as_numbers.to(self.dtype)
            means = torch.bmm(ones, self.flatten(2).mT).squeeze(1) / self.visible.counts_as_numbers
            if math.isfinite(means.sum().item()):
                return means
        shown = self.with_hidden_zero()
        sums = shown.sum(dim=self.spatial_axes, dtype=torch.promote_types(shown.dtype, torch.float32))
        of_images = [-1 if axis == self.axes[0] else 1 for axis in range(sums.ndim)]  # which precede height and width
        return sums / self.visible.counts.reshape(of_images)

    @property
    def _takes_products(self) -> bool:
        """Whether a matrix product with the mask is right, and faster than a sum."""
        if not self.visible.can_inspect or torch.is_autocast_enabled("cpu"):
            return False
        if self.shape[0] == 1 and self.requires_grad:  # batch norm in eval mode misreads the strides of this gradient
            return False
        return self.is_images_first and self.element_size() >= 4

    def with_zero_outside(self, features: Tensor) -> Tensor:
        """Features (B, C, *size) at these positions with 0 outside of images that are smaller than the map.

        Without gradients they are changed where they lie.
        """
        extent = self.visible.extent
        if extent is None:
            return features
        records = torch.is_grad_enabled() if self.run is None else self.run.records
        is_dense = features.is_contiguous() or is_channels_last(features)
        if records or not is_dense or not self.visible.can_inspect:
            return self.visible.cut(features)
        for image, lengths in zip(features, extent.tolist(), strict=True):
            for axis, length in enumerate(lengths, 1):
                image.narrow(axis, length, image.shape[axis] - length).zero_()
        return features

    def with_neighbour_padding(self, count: int, *, owns_gradient: bool = False) -> Tensor:
        """The features with hidden positions filled by the options' padding.

        Args:
            count: rings to fill.
            owns_gradient: whether one convolution alone takes the result; see `morphology.pad_rows`.

        Returns:
            (B, C, *size).
        """
        if count == 0 or self.visible.everything or self.visible.is_whole:
            return self.features
        if self.visible.options.padding == "zeros":
            return self.with_hidden_zero()
        # No ring reaches what lies behind a frame, as between the positions that a transposed convolution spreads.
        features = self.features if self.visible.frame is None else self.with_hidden_zero()
        return self.visible.pad(features, count, owns_gradient=owns_gradient)


def carry(features: Tensor, visible: VisibleMap, axes: Axes | None = None) -> Masked:
    """Features that nobody else holds, with the map of their visible positions; see `Masked`."""
    axes = visible.axes if axes is None else axes
    if isinstance(features, Masked):
        if features._visible is visible and features._axes == axes:
            return features
        features = features.features
    shape = features.shape
    if len(shape) <= axes[-1] or tuple(map(shape.__getitem__, axes)) != visible.size:
        raise NotImplementedError(
            f"layer masking needs features whose axes {axes} are the {visible.size[0]} images and "
            f"{times(visible.size[1:])} positions of the mask, got shape {tuple(shape)}; give this operation, or the "
            "module around it, a rule of its own with masking_rule."
        )
    masked = _as_masked(features)
    # On the tensor itself: torch.compile does not read attributes of its class.
    masked._visible, masked._axes, masked._arrangement = visible, axes, None
    return masked


def arrange(features: Tensor, arrangement: Arrangement) -> Masked:
    """Features that nobody else holds, with positions in any arrangement; a map where they are one.

    Raises:
        DependsOnSize: they are none, and the images have several sizes.
    """
    of_map = arrangement.map_and_axes
    if of_map is not None:
        return carry(features, *of_map)
    if arrangement.places.like.extent is not None:
        raise DependsOnSize
    masked = _as_masked(features.features if isinstance(features, Masked) else features)
    masked._visible = masked._axes = None
    masked._arrangement = arrangement
    return masked


def arrangement_of(x: Any, like: Masked) -> Arrangement:
    """Where the positions of an operand lie; a plain one has none."""
    if isinstance(x, Masked):
        return x.arrangement
    places = like.arrangement.places
    everywhere = places.once("everywhere", lambda: Places(places.shown.new_ones(1), places.like))
    return Arrangement(everywhere, tuple(map(channels, x.shape)))


def ended(features: Tensor, arrangement: Arrangement) -> Masked | Tensor:
    """Masked features; a plain tensor with 0 for hidden images where no positions are left."""
    if features.numel() == 0:
        return features
    if not arrangement.ends or arrangement.map_and_axes is not None:
        return arrange(features, arrangement)
    return features.masked_fill(~arrangement.positions, 0.0)


def _as_masked(features: Tensor) -> Masked:
    """The tensor itself where it can be, of another class."""
    masked: Masked
    is_own = not torch.compiler.is_compiling() and not (
        torch.is_grad_enabled() and (features.grad_fn is None or is_view(features))
    )
    if is_own:
        # The tensor itself: a view of it would be copied in the backward pass of changes in place, and takes time.
        masked = features  # type: ignore[assignment]
        masked.__class__ = Masked if type(features) is Tensor else _masked_class(type(features))
    elif type(features) is Tensor:
        masked = features.as_subclass(Masked)
    else:  # such as a fake tensor, which torch does not turn into another class
        masked = torch.ops.aten.alias(features)
        masked.__class__ = _masked_class(type(features))
    masked.rings, masked.counts, masked.frame, masked.branches = 0, None, None, None
    masked.run, masked.memory, masked.known_state, masked.is_of_copies = None, None, 0, False
    return masked


@cache
def _masked_class(kind: type[Tensor]) -> type[Masked]:
    return type("Masked", (Masked, kind), {})


def map_output(change: Callable[[Any], Any], output: Any) -> Any:
    """What a network returns, with each leaf changed: in lists, tuples, dictionaries and the fields of dataclasses."""

    def changed(value: Any) -> Any:
        if not dataclasses.is_dataclass(value) or isinstance(value, type):
            return change(value)
        fields = {each.name: getattr(value, each.name) for each in dataclasses.fields(value) if each.init}
        return dataclasses.replace(value, **{name: tree_map(changed, field) for name, field in fields.items()})

    return tree_map(changed, output)


def without_axes(axes: Axes, removed: Iterable[int]) -> Axes:
    """What axes are called once others have been removed."""
    removed = [*removed]
    return tuple(axis - sum(each < axis for each in removed) for axis in axes)


def masked_in(values: Iterable[Any]) -> list[Masked]:
    """The masked features among values, and in lists and tuples among them."""
    return cast("list[Masked]", ruled_in(values))


def check_images_first(x: Masked) -> None:
    """Refuse features that are not (B, C, *size)."""
    if not x.is_images_first:
        raise NotImplementedError(
            f"layer masking needs features {layout_of(x)} here, with axes {x.visible.axes} for images and positions, "
            f"got shape {tuple(x.shape)} with axes {x.axes}; permute them first."
        )


def layout_of(x: Masked) -> str:
    """The order of axes that most rules need, in words."""
    return LAYOUTS[len(x.visible.size) + 1]


def slide(
    x: Masked, compute: Callable[[Tensor], Tensor], kernel_size: int | Sizes, stride: int | Sizes = 1,
    padding: int | Padding | str = 0, dilation: int | Sizes = 1, ceil_mode: bool = False, *,
    hidden: Literal["neighbours", "zero"], outside: float = 0.0,
) -> Masked:  # fmt: skip
    """What every convolution and pool does: hidden positions get a value, then computation, then mask propagation.

    Args:
        x: (B, C, *size) masked features.
        compute: the plain computation, alone in taking what it is given.
        kernel_size: of the window, as torch takes it.
        stride: likewise.
        padding: likewise, or ahead of and behind each axis; see `Window.of`.
        dilation: likewise.
        ceil_mode: likewise.
        hidden: what it reads at hidden positions: neighbour padding as far as the window reaches, or 0.
        outside: what it reads in its own padding, and outside of images that are smaller than the map.

    Raises:
        NotImplementedError: the features are not (B, C, *size).
    """
    # In ceil mode windows may start in a frame, but not in their own padding.
    frame = None if ceil_mode else x.frame
    inside = x if frame is None else frame.inside
    check_images_first(inside)
    window = Window.of(len(inside.axes) - 1, kernel_size, stride, padding, dilation, ceil_mode)
    if frame is not None:
        window = window._replace(padding=added(window.padding, frame.padding))
    rings = window.rings if hidden == "neighbours" else 0
    features: Tensor = inside
    if inside.visible.is_whole:
        pass
    elif hidden == "zero":
        features = inside.with_hidden_zero()
    elif rings and not inside.visible.is_whole_under(window):
        features = inside.with_neighbour_padding(rings, owns_gradient=True)
    reads_beyond = inside.visible.extent is not None and window.reads_beyond
    value = outside if frame is None else frame.value
    if reads_beyond:
        features = inside.with_zero_outside(features) if value == 0 else inside.visible.cut(features, value)
    if frame is not None:
        features = F.pad(features, frame.padding, value=frame.value)
        if reads_beyond and value != outside:
            features = x.visible.cut(features, outside)
    visible, computed = inside.visible.window(window), compute(features)
    if reads_beyond and outside != 0:
        computed = visible.cut(computed)  # finite everywhere
    result = carry(computed, visible)
    result.rings = rings
    return result
