"""`Masked`, a tensor subclass that carries which of its positions are visible through a network's own forward.

Torch hands every function that meets such a tensor to `Masked.__torch_function__`, which looks its rule up in the table
(`table`). Within a rule masked features are plain tensors to torch.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple, Optional, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from maskrobust.lm_modules.masking import functional
from maskrobust.lm_modules.masking.morphology import pad_rows, zero_rows
from maskrobust.lm_modules.masking.table import (
    ANSWERED,
    ASKING_SIZES,
    MADE_IN_SHAPE,
    Rule,
    UnsupportedNetworkError,
    name_of,
    no_rule,
    rule_of,
)
from maskrobust.lm_modules.masking.visible_map import Padding, VisibleMap

Axes = tuple[int, int, int]
IMAGES_FIRST: Axes = (0, 2, 3)
"""Axes of the images, of height and of width in (B, C, H, W)."""

Observe = Callable[[Any, Rule, Sequence[Any], Any], Any]


class Sizes(Protocol):
    """How a pass computes a batch of images of several sizes; see `sizes.SizesOfRun`."""

    asked: bool

    def end(self) -> None:
        """Check the pass as a whole."""

    def apply(self, run: "Run", operation: Any, rule: Rule, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """What a rule returns for the images of all sizes."""


class Run:
    """One masked forward pass.

    Attributes:
        observe: called with operation, rule, arguments and result of each step; returns what the network gets. None to
            compute alone.
        records: whether autograd recorded when the pass began, so that it may need features again.
        is_over: whether the pass has returned. From then on masked features are tensors with 0 at hidden positions,
            but for a backward pass that computes a part of the network again.
        steps: how many rules have been applied.
        sizes: of the images, where they have several.
        note: called with operation, rule, arguments and keywords of each step, and its result; None for nothing.
    """

    def __init__(self, observe: Observe | None = None, sizes: Sizes | None = None) -> None:
        self.observe, self.records, self.is_over, self.steps = observe, torch.is_grad_enabled(), False, 0
        self.sizes = sizes
        self.note: Callable[..., None] | None = None

    def tell(self, operation: Any, rule: Rule, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> Any:
        """What the network gets for the result of a rule."""
        if self.note is not None:
            self.note(operation, rule, args, kwargs, result)
        return result if self.observe is None else self.observe(operation, rule, [*args, *kwargs.values()], result)


class Memory:
    """What all names of the same features share, so that none is used after another one has changed them in place.

    A change touches the region that it is made in, the regions around it, and those within.
    """

    def __init__(self, around: Optional["Memory"] = None) -> None:
        self.around, self._changes, self._changes_of_all = around, 0, 0

    @property
    def state(self) -> int:
        """A number that every change that touches this region increases."""
        return self._changes + sum(region._changes_of_all for region in self._outer())

    def change(self) -> None:
        """Note a change of this region."""
        self._changes_of_all += 1
        for region in (self, *self._outer()):
            region._changes += 1

    def _outer(self) -> "Iterator[Memory]":
        region = self.around
        while region is not None:
            yield region
            region = region.around


class Frame(NamedTuple):
    """What an operation of its own has put around features, ahead of a convolution or pool without padding.

    The frame counts as hidden. A convolution or pool takes what is inside and the padding instead, so that padding
    ahead of it is the same as padding within it.

    Attributes:
        inside: what was framed.
        padding: at (left, right, top, bottom).
        value: 0, or minus infinity ahead of a max pool.
        state: of the memory of `inside` then.
    """

    inside: "Masked"
    padding: Padding
    value: float
    state: int


class Masked(Tensor):
    """Features of which only some positions are visible. Values at hidden positions are finite and mean nothing.

    A hook of a module is given such a tensor. Once the forward pass has returned, every function of torch takes it as a
    plain tensor with 0 at hidden positions.

    Attributes:
        rings: how many rings of neighbour padding the operation asked for that made the features.
        frame: set where an operation of its own has made the features by padding.
        branches: set where the features are several branches stacked along axis 0.
        parts: set where the features have been computed for each size by itself: those of each one.
        is_of_copies: whether a rule has computed them from a copy of its first operand, which a change in place has to
            be written back to.

    Raises:
        NotImplementedError: the features are no map of these positions.
    """

    visible: VisibleMap
    axes: Axes
    rings: int
    frame: Frame | None
    branches: tuple[Any, ...] | None
    parts: "Sequence[Masked] | None"
    run: Run | None
    memory: Memory | None
    known_state: int
    is_of_copies: bool

    def __new__(cls, features: Tensor, visible: VisibleMap, axes: Axes = IMAGES_FIRST) -> "Masked":
        """Features with their visible positions.

        Args:
            features: (B, C, H, W) float, or any other order of `axes`, with any number of further axes for channels.
            visible: the visible positions at the resolution of `features`.
            axes: which axes of `features` are the images, the height and the width, ascending.
        """
        return carry(features.view_as(features), visible, axes)

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Iterable[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """What torch does instead of a function that is called with masked features."""
        with torch._C.DisableTorchFunctionSubclass():
            if func in ANSWERED:
                return _answer(func, args, kwargs or {})
            return apply_rule(func, rule_of(func), args, kwargs or {})

    def __repr__(self) -> str:  # type: ignore[override]
        _, height, width = self.visible.size
        return f"Masked(shape={tuple(self.shape)}, dtype={self.dtype}, positions={height} x {width}, axes={self.axes})"

    def as_subclass(self, cls: type[Tensor]) -> Any:
        """Refused while a pass runs: torch hands it to no rule, and the mask would be lost."""
        if not torch._C._is_torch_function_enabled():
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
    def features(self) -> Tensor:
        """The same memory as a plain tensor, without the mask."""
        with torch._C.DisableTorchFunctionSubclass():
            if type(self) is Masked and not torch.compiler.is_compiling():
                return super().as_subclass(Tensor)
            return torch.ops.aten.alias(self)  # type: ignore[no-any-return]

    @property
    def spatial_axes(self) -> tuple[int, int]:
        """The axes of `features` that are height and width."""
        return self.axes[1:]

    @property
    def is_images_first(self) -> bool:
        """Whether the features are (B, C, H, W)."""
        return self.axes == IMAGES_FIRST and self.ndim == 4

    @property
    def positions(self) -> Tensor:
        """The visible positions, bool, in a shape that broadcasts against `features`."""
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
        masked = carry(features, self.visible, self.axes)
        masked.run = self.run
        return masked

    def with_hidden_one(self) -> Tensor:
        """The features with 1 at hidden positions, where no quotient, root, power or logarithm is infinite or NaN.

        Such a value would reach gradients, 0 though they are there: 0 times infinity is NaN.
        """
        if self.visible.everything:
            return self
        with torch._C.DisableTorchFunctionSubclass():
            features: Tensor = torch.where(self.positions, self, 1.0)
            return features

    def with_hidden_zero(self) -> Tensor:
        """The features with 0 at hidden positions, in the shape of `features`."""
        if self.visible.everything:
            return self.features
        records = torch.is_grad_enabled() if self.run is None else self.run.records
        with torch._C.DisableTorchFunctionSubclass():
            if self.is_images_first and not records and self.visible.can_inspect:
                return zero_rows(self.features, self.visible.hidden_row_indices)
            hide = functional.hide_finite if self.is_images_first else functional.hide
            return hide(self, self.positions)

    def as_plain(self) -> Tensor:
        """A plain tensor of its own with 0 at hidden positions."""
        with torch._C.DisableTorchFunctionSubclass():
            return functional.hide(self, self.positions)

    def of_image(self, index: int) -> Tensor:
        """The features of one image, a batch of one, with 0 at hidden positions and without what lies beyond it."""
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
        """Features (B, C, H, W) at these positions with 0 outside of images that are smaller than the map.

        Without gradients they are changed where they lie.
        """
        extent = self.visible.extent
        if extent is None:
            return features
        records = torch.is_grad_enabled() if self.run is None else self.run.records
        is_dense = features.is_contiguous() or features.is_contiguous(memory_format=torch.channels_last)
        if records or not is_dense or not self.visible.can_inspect:
            return self.visible.cut(features)
        for image, (height, width) in zip(features, extent.tolist(), strict=True):
            image[:, height:].zero_()
            image[:, :height, width:].zero_()
        return features

    def with_neighbour_padding(self, count: int, *, owns_gradient: bool = False) -> Tensor:
        """The features with hidden positions filled by the options' padding.

        Args:
            count: rings to fill.
            owns_gradient: whether one convolution alone takes the result; see `morphology.pad_rows`.

        Returns:
            (B, C, H, W).
        """
        if count == 0 or self.visible.everything or self.visible.is_whole:
            return self.features
        if self.visible.options.padding == "zeros":
            return self.with_hidden_zero()
        if not self.visible.can_inspect:
            return self.visible.pad(self.features, count)
        detach_padding = self.visible.options.detach_padding
        plan = self.visible.padding_rows(count)
        return pad_rows(self.features, plan, detach_padding=detach_padding, owns_gradient=owns_gradient)


def carry(features: Tensor, visible: VisibleMap, axes: Axes = IMAGES_FIRST) -> Masked:
    """Features that nobody else holds, with the map of their visible positions; see `Masked`."""
    if isinstance(features, Masked):
        if features.visible is visible and features.axes == axes:
            return features
        features = features.features
    shape, (images, height, width) = features.shape, axes
    if len(shape) <= width or (shape[images], shape[height], shape[width]) != visible.size:
        raise NotImplementedError(
            f"layer masking needs features whose axes {axes} are the {visible.size[0]} images and {visible.size[1]} x "
            f"{visible.size[2]} positions of the mask, got shape {tuple(shape)}; give this operation, or the module "
            "around it, a rule of its own with masking_rule."
        )
    masked: Masked
    is_own = not torch.compiler.is_compiling() and not (
        torch.is_grad_enabled() and (features.grad_fn is None or features._is_view())
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
    # On the tensor itself: torch.compile does not read attributes of its class.
    masked.visible, masked.axes, masked.rings, masked.frame = visible, axes, 0, None
    masked.branches, masked.parts = None, None
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
    images, height, width = (axis - sum(each < axis for each in removed) for axis in axes)
    return images, height, width


_RENAMED = {"axis": "dim", "keepdims": "keepdim"}
_TENSORS = ("input", "tensors", "other")
_SPECIAL = {*_RENAMED, *_TENSORS, "out"}


def apply_rule(operation: Any, rule: Rule | None, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Compute an operation that is called with masked features by its rule.

    Args:
        operation: what the network calls.
        rule: of the operation; None without one.
        args: positional arguments, `Masked` among them or in lists and tuples.
        kwargs: keyword arguments, likewise.

    Returns:
        What the rule returns.

    Raises:
        UnsupportedNetworkError: layer masking cannot compute the operation.
    """
    operands = masked_in((*args, *kwargs.values()))
    run = operands[0].run
    if len(operands) > 1:
        _refuse_other_runs(operation, operands)
    compiles = torch.compiler.is_compiling()
    in_backward = not compiles and torch._C._current_graph_task_id() != -1
    if in_backward and not torch.is_grad_enabled() and operation is not Tensor.detach:
        # A derivative of saved features. Reentrant checkpoints detach those that a part is computed again from.
        return operation(*args, **kwargs)
    if run is not None and run.is_over and not in_backward:
        return operation(*_plain(tuple(args)), **_plain(kwargs))
    if rule is None:
        raise no_rule(operation)
    _refuse_stale(operands)
    if not _SPECIAL.isdisjoint(kwargs):
        args, kwargs = _in_order(operation, args, kwargs)
    if run is not None:
        run.steps += 1
    changed = _changed_by(operation, args) if rule.changes_first(args, kwargs) else None
    if changed is not None and compiles:  # which takes a tensor that is changed for a plain one
        args = [changed.with_fresh(changed.features), *args[1:]]
    result = _compute(run, operation, rule, args, kwargs)
    if changed is not None:
        result = _written(operation, changed, result)
    elif type(result) in (tuple, list):
        result = type(result)(_own(part, operands, run, is_part=True, compiles=compiles) for part in result)
    else:
        result = _own(result, operands, run, is_part=False, compiles=compiles)
    return result if run is None else run.tell(operation, rule, args, kwargs, result)


def _compute(run: Run | None, operation: Any, rule: Rule, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    try:
        if run is None or run.sizes is None:
            return rule.apply(operation, *args, **kwargs)
        return run.sizes.apply(run, operation, rule, args, kwargs)
    except NotImplementedError as error:
        raise UnsupportedNetworkError(str(error)) from error


def _answer(function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The answer to a question, noted where it depends on the size of the images and they have several.

    Raises:
        UnsupportedNetworkError: the answer would be a tensor of the size of the batch.
    """
    run = args[0].run if args and isinstance(args[0], Masked) else None
    if run is not None and run.sizes is not None and not run.is_over:
        if function in MADE_IN_SHAPE:
            raise UnsupportedNetworkError(
                f"{name_of(function)} makes a tensor without a mask that is as large as the whole batch, but the "
                "images of the batch have several sizes; give images of one size."
            )
        run.sizes.asked |= function in ASKING_SIZES
    result = function(*args, **kwargs)
    if run is not None and run.note is not None:
        run.note(function, None, args, kwargs, result)
    return result


def _refuse_other_runs(operation: Any, operands: Sequence[Masked]) -> None:
    if any(each.run is not operands[0].run for each in operands):
        raise UnsupportedNetworkError(
            f"{name_of(operation)} is called with masked features of another forward pass; compute them anew in each."
        )


def _changed_by(operation: Any, args: Sequence[Any]) -> Masked:
    """The first argument of an operation that changes it in place."""
    if not isinstance(args[0], Masked):
        raise UnsupportedNetworkError(
            f"{name_of(operation)} writes masked features into a tensor without a mask; compute it out of place."
        )
    return args[0]


def masked_in(values: Iterable[Any]) -> list[Masked]:
    """The masked features among values, and in lists and tuples among them."""
    found = []
    for value in values:
        if isinstance(value, Masked):
            found.append(value)
        elif type(value) in (list, tuple):
            found += masked_in(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Masked):
        return value.as_plain()
    if type(value) in (list, tuple):
        return type(value)(map(_plain, value))
    return {name: _plain(each) for name, each in value.items()} if type(value) is dict else value


def _in_order(operation: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    """Tensors by position, as rules take them, and the names that torch prefers."""
    kwargs = {_RENAMED.get(name, name): value for name, value in kwargs.items()}
    if kwargs.pop("out", None) is not None:
        raise UnsupportedNetworkError(
            f"{name_of(operation)} writes masked features into out=; assign the result instead."
        )
    named = [kwargs.pop(name) for name in _TENSORS if name in kwargs]
    return (*args, *named), kwargs


def _refuse_stale(operands: Sequence[Masked]) -> None:
    for each in operands:
        is_framed_later = each.frame is not None and share_memory(each.frame.inside).state != each.frame.state
        if is_framed_later or (each.memory is not None and each.memory.state != each.known_state):
            raise UnsupportedNetworkError(
                "masked features are used after they have been changed in place through another name, such as a view; "
                "compute the change out of place."
            )


def share_memory(x: Masked) -> Memory:
    """Watch the memory of features from now on."""
    if x.memory is None:
        x.memory = Memory()
    return x.memory


def _own(result: Any, operands: Sequence[Masked], run: Run | None, *, is_part: bool, compiles: bool) -> Any:
    """A result of a rule; one that lies in an operand's memory is watched, or copied where it is a plain tensor."""
    if not isinstance(result, Tensor):
        return result
    if isinstance(result, Masked):
        result.run = run
    if compiles:
        return result
    for each in operands:
        if result is not each and _are_aliases(result, each):
            if not isinstance(result, Masked):
                return result.clone()
            memory = share_memory(each)
            result.memory = Memory(memory) if is_part else memory
            result.known_state = result.memory.state
    return result


_are_aliases: Callable[[Tensor, Tensor], bool] = torch._C._is_alias_of  # type: ignore[attr-defined]


def _written(operation: Any, changed: Masked, result: Any) -> Masked:
    """Features after a change in place to the result of a rule."""
    if not isinstance(result, Masked) or result.shape != changed.shape:
        raise UnsupportedNetworkError(f"{name_of(operation)} cannot be masked in place; compute it out of place.")
    if result is not changed:
        if torch.compiler.is_compiling():
            if result.is_of_copies:
                changed.features.copy_(result.features)
        elif not _are_aliases(result, changed):
            changed.copy_(result)
        changed.visible, changed.axes = result.visible, result.axes
    changed.frame = changed.branches = changed.parts = None
    if changed.memory is not None:
        changed.memory.change()
        changed.known_state = changed.memory.state
    return changed
