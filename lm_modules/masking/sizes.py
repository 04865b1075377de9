"""Layer masking of a batch of images of several sizes, each computed as if it were alone.

Rules that heed the sizes compute all images together (`table.ANY_SIZES`). Any other rule is applied to the images of
each size by themselves. A network that asks how large its features are, wherever in the pass, may do something else for
each size: it is followed at each of them on tensors without values, and what it does there is done here, or refused.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from maskrobust.errors import InputError
from maskrobust.lm_modules.masking.axes import cropped, times
from maskrobust.lm_modules.masking.dispatch import Run
from maskrobust.lm_modules.masking.masked import NEEDS_ONE_SIZE, Masked, carry, map_output, masked_in
from maskrobust.lm_modules.masking.memory import share, share_memory
from maskrobust.lm_modules.masking.rules.convolution import convolution, pad, transposed_convolution
from maskrobust.lm_modules.masking.rules.merging import concatenate, difference_from, residual
from maskrobust.lm_modules.masking.rules.pointwise import pointwise, power, quotient, quotient_of_number, singular
from maskrobust.lm_modules.masking.rules.reshaping import expand, expand_as, view, view_as
from maskrobust.lm_modules.masking.table import ANSWERED, ANY_SIZES, Rule, UnsupportedNetworkError, name_of
from maskrobust.lm_modules.masking.torch_private import are_aliases, handing_on
from maskrobust.lm_modules.masking.visible_map import DependsOnSize, MaskingOptions, VisibleMap
from maskrobust.lm_modules.masking.wrapping import Names, follow, name_of_tensor

_BROADCASTING = (
    pointwise, power, quotient, quotient_of_number, singular, residual, difference_from, concatenate,
)  # fmt: skip
_REARRANGING = (view, view_as, expand, expand_as)
_KNOWN_SIZES = 256
_REMEDY = "give the images of each size to the network in a batch of their own."


def check_sizes(images: Tensor, sizes: Tensor) -> None:
    """Refuse sizes that are none of images on this canvas.

    Args:
        images: (B, C, H, W).
        sizes: (B, n) int64, size of each image.

    Raises:
        TypeError: the sizes are no tensor of integers.
        InputError: they have another shape, or an image is empty or larger than its canvas.
    """
    if not isinstance(sizes, Tensor) or sizes.dtype not in (torch.int64, torch.int32):
        given = f"{sizes.dtype}" if isinstance(sizes, Tensor) else type(sizes).__name__
        raise TypeError(f"sizes must be an int64 tensor (B, {images.ndim - 2}), got {given}; see pad_batch.")
    canvas = tuple(images.shape[2:])
    if sizes.shape != (images.shape[0], len(canvas)):
        raise InputError(
            f"sizes must hold the size of each of {images.shape[0]} images, shape ({images.shape[0]}, {len(canvas)}), "
            f"got shape {tuple(sizes.shape)}; see pad_batch."
        )
    if torch.compiler.is_compiling():
        return
    for index, lengths in enumerate(sizes.tolist()):
        if not all(1 <= length <= longest for length, longest in zip(lengths, canvas, strict=True)):
            raise InputError(
                f"sizes must lie between {times([1] * len(canvas))} and the canvas, {times(canvas)}, got "
                f"{times(lengths)} for image {index} of the batch; see pad_batch."
            )


class Call(NamedTuple):
    """One function that a network calls, without the values of tensors.

    Attributes:
        operation: that is called.
        rule: of it; None where nothing is masked.
        args: positional arguments and keywords, with what `_without_tensors` puts for tensors.
        tensors: which tensors these are, as `Calls` names them.
        rearranged: for a rule that moves no position, such as a view into groups of channels: shape of the result
            without height and width, and its axes.
    """

    operation: Any
    rule: Any
    args: tuple[Any, dict[str, Any]]
    tensors: tuple[Hashable, ...] = ()
    rearranged: Hashable = None

    @classmethod
    def of(
        cls,
        operation: Any,
        rule: Any,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        result: Any = None,
        tensors: tuple[Hashable, ...] = (),
    ) -> "Call":
        """What is noted of a call."""
        if isinstance(result, Masked) and not result.is_map:
            raise UnsupportedNetworkError(NEEDS_ONE_SIZE)
        shapes = rule is None
        given = (
            _without_tensors(tuple(args), shapes),
            {key: _without_tensors(each, shapes) for key, each in kwargs.items()},
        )
        rearranged = None
        if rule is not None and rule.apply in _REARRANGING and isinstance(result, Masked):
            first = masked_in((*args, *kwargs.values()))[0]
            if first.visible.size == result.visible.size:
                shape = [size for axis, size in enumerate(result.shape) if axis not in result.spatial_axes]
                rearranged = (*shape, result.axes)
        return cls(operation, rule, given, tensors, rearranged)

    def is_of_same_function(self, other: "Call") -> bool:
        """Whether another call is of the same function, and takes the same tensors if these are known."""
        if self.tensors != other.tensors and self.tensors and other.tensors:
            return False
        return self.operation is other.operation or name_of(self.operation) == name_of(other.operation)

    def does_the_same(self, other: "Call") -> bool:
        """Whether images of several sizes can be computed with the arguments of either call of one function."""
        if self.rearranged is not None and self.rearranged == other.rearranged:
            return True
        return bool(self.args == other.args) or (self.rule is None and self._repeats(other))

    def _repeats(self, other: "Call") -> bool:
        """Whether both repeat one position of the same tensor, so that all positions of the result are alike."""
        (first, *_), (second, *_) = self.args[0] or [None], other.args[0] or [None]
        is_one = isinstance(first, tuple) and first[0] is _TENSOR and set(first[1][2:]) == {1}
        repeats = self.operation in (F.interpolate, F.upsample) and is_one
        return first == second and (repeats or self.operation is Tensor.expand)


class Calls(list[Call]):
    """The calls of one pass on tensors without values, with which tensors each of them takes.

    A tensor of the network is named by itself, one that the pass computes by the call that returned it, and any other
    by its values.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: Names = {}

    def note(self, operation: Any, rule: Any, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> None:
        """Add a call."""
        made = [each for each in tree_leaves(result) if isinstance(each, Tensor)]
        if operation in ANSWERED and not made:
            return
        tensors = tuple(self._name(each) for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor))
        self.append(Call.of(operation, rule, args, kwargs, result, tensors))
        for place, each in enumerate(made):
            self.names[id(each)] = each, (len(self), place)

    def end(self, output: Any) -> None:
        """Add what the network returns, as a call of its own."""
        found: list[Any] = []
        map_output(found.append, output)
        self.append(
            Call(_return, None, (_without_tensors(found, False), {}), tuple(self._name(each) for each in found))
        )
        self.names.clear()  # the tensors are no longer needed

    def _name(self, value: Any) -> Hashable:
        if not isinstance(value, Tensor):
            return None
        return self.names[id(value)][1] if id(value) in self.names else name_of_tensor(value)


def _return() -> None:
    """Stands for the end of a network among what it calls."""


_TENSOR = "a tensor"
"""Stands for a tensor in the arguments of a call."""


def _without_tensors(value: Any, shapes: bool) -> Any:
    """`_TENSOR` for each tensor, with its shape where `shapes` says so."""
    if isinstance(value, Tensor):
        return (_TENSOR, tuple(value.shape)) if shapes and not isinstance(value, Masked) else _TENSOR
    if isinstance(value, list | tuple):
        return tuple(_without_tensors(each, shapes) for each in value)
    return value


def _with_tensors(value: Any, own: Any) -> Any:
    """Arguments `own` of one size, with the tensors of `value`."""
    if isinstance(value, Tensor):
        return value
    if type(value) in (list, tuple) and isinstance(own, tuple) and len(value) == len(own):
        return type(value)(map(_with_tensors, value, own))
    return own


class SizesOfRun:
    """How one pass computes a batch of images of several sizes.

    Attributes:
        asked: whether the network has asked how large its features are.
    """

    def __init__(
        self,
        network: nn.Module,
        options: MaskingOptions,
        shape: Sequence[int],
        sizes: Tensor,
        known: dict[Hashable, Calls],
    ) -> None:
        """Of a network for images.

        Args:
            network: that computes.
            options: of masking.
            shape: (B, C, *size) of the batch.
            sizes: (B, n), of its images.
            known: what the network does at some sizes; what is found out is added.
        """
        self.asked = False
        self._network, self._options, self._shape, self._known = network, options, tuple(shape), known
        self._calls: list[tuple[Call, list[Call]]] | None = None
        if not torch.compiler.is_compiling():
            different, of_image = torch.unique(sizes.cpu(), dim=0, return_inverse=True)
            self._sizes: list[list[int]] = different.tolist()
            self._rows = [(of_image == index).nonzero().flatten() for index in range(len(different))]

    def end(self) -> None:
        """Refuse a network that has asked for a size in its pass and does something else with the answer."""
        if self.asked:
            _refuse_questions_in_compiled_code()
            self._calls = self._calls or self._follow_all()

    def apply(self, run: Run, operation: Any, rule: Rule, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """What a rule returns for the images of all sizes: for all together, or for each size by itself."""
        operands = masked_in((*args, *kwargs.values()))
        own = self._own_calls(run, operation, rule, args, kwargs) if self.asked else None
        if rule.apply in _BROADCASTING and any(each.visible.extent is not None for each in operands):
            _refuse_places(operation, operands[0], tree_leaves((args, kwargs)))
        is_joint = rule.apply in ANY_SIZES or all(each.visible.extent is None for each in operands)
        if own is None and is_joint and all(each.parts is None for each in operands):
            try:
                return rule.apply(operation, *args, **kwargs)
            except DependsOnSize:
                pass
        if torch.compiler.is_compiling():
            raise UnsupportedNetworkError(
                f"{name_of(operation)} depends on the size of each image, which compiled code cannot compute for "
                "images of several sizes; compute them without compiling."
            )
        return self._one_by_one(operation, rule, args, kwargs, own)

    def _one_by_one(
        self, operation: Any, rule: Rule, args: Sequence[Any], kwargs: dict[str, Any], own: list[Call] | None
    ) -> Any:
        results, places, batch = [], masked_in((*args, *kwargs.values())), self._shape[0]
        changed: list[Masked] = []
        for index, rows in enumerate(self._rows):
            given: tuple[Any, Any] = tuple(args), kwargs
            if own is not None:
                given = (
                    _with_tensors(given[0], own[index].args[0]),
                    {name: _with_tensors(kwargs[name], each) for name, each in own[index].args[1].items()},
                )
            takes_all = rule.apply not in _WITHOUT_IMAGES and _may_be_of_images(given, batch)
            if takes_all and any(each.parts is not None for each in places):
                raise NotImplementedError(
                    f"layer masking cannot tell which images the tensors that {name_of(operation)} takes beside masked "
                    f"features belong to, after padding that depends on the size of the image; {_REMEDY}"
                )
            parts = [self._part(each, index, None if takes_all else rows) for each in places]
            of_place = iter(parts)
            try:
                result = rule.apply(operation, *_filled(given[0], of_place), **_filled(given[1], of_place))
            except NotImplementedError:
                raise
            except (RuntimeError, IndexError) as error:  # of torch, for one size
                raise UnsupportedNetworkError(
                    f"{name_of(operation)} cannot compute the images of {times(self._sizes[index])} pixels of the "
                    f"batch ({str(error).splitlines()[0]}); leave them out, or enlarge them."
                ) from error
            for place, part in zip(places, parts, strict=True):
                if isinstance(result, Masked) and (result.memory is not None or are_aliases(result, part)):
                    changed.append(place)
            results.append(_rows_of(result, rows, places[0].axes[0]) if takes_all else result)
        joined = _joined(results, self._rows, operation, places[0].axes[0])
        if changed and isinstance(joined, Masked):  # a copy of what would be a view, which still counts as one
            share(joined, share_memory(changed[0]))
        return joined

    def _part(self, x: Masked, index: int, rows: Tensor | None) -> Masked:
        """Masked features of the images of one size; of all images at the places of one size where `rows` are None."""
        if x.parts is not None:
            return x.parts[index]
        visible, device = x.visible, x.visible.positions.device
        size = visible.size[1:]
        if visible.extent is not None:
            size = tuple(visible.extent[self._rows[index][0]].tolist())
        features = x.features if rows is None else x.features.index_select(x.axes[0], rows.to(x.device))
        for axis, length in zip(x.spatial_axes, size, strict=True):
            features = features.narrow(axis, 0, length)
        key = ("size", index, rows is None)
        shown, frame = visible.positions, visible.frame
        if rows is not None:
            shown = shown.index_select(0, rows.to(device))
            frame = None if frame is None else frame.expand_as(visible.positions).index_select(0, rows)
        frame = None if frame is None else cropped(frame, size)
        part = carry(features, visible.kept(key, cropped(shown, size).contiguous(), frame), x.axes)
        part.run = x.run
        return part

    def _own_calls(
        self, run: Run, operation: Any, rule: Rule, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> list[Call] | None:
        """The call of this step at each size; None where it is one and the same."""
        here, step = Call.of(operation, rule, args, kwargs), run.steps - 1
        _refuse_questions_in_compiled_code()
        for is_last in (False, True):
            if self._calls is None:
                self._calls = self._follow_all()
            if step < len(self._calls):
                there, own = self._calls[step]
                if here.is_of_same_function(there) and here.args == there.args:
                    return None if all(there.does_the_same(each) for each in own) else own
            if is_last:
                break
            self._known.clear()  # the network may have been changed
            self._calls = None
        raise UnsupportedNetworkError(
            f"{name_of(operation)} is called otherwise in this pass than in one on tensors without values, as by a "
            f"hook, in a part that is computed again, or after a choice by chance; {_REMEDY}"
        )

    def _follow_all(self) -> list[tuple[Call, list[Call]]]:
        """Of each masked step the call on the canvas, and those at each size.

        Raises:
            UnsupportedNetworkError: the network does something else at some size.
        """
        canvas, *own = (self._follow(size) for size in (self._shape[2:], *self._sizes))
        for size, calls in zip(self._sizes, own, strict=True):
            for index, (one, other) in enumerate(zip(canvas, calls, strict=False)):  # up to the end of either
                if not one.is_of_same_function(other) or (one.rule is None and not one.does_the_same(other)):
                    self._refuse(index, size)
        steps = [step for step, each in enumerate(canvas) if each.rule is not None]
        return [(canvas[step], [calls[step] for calls in own]) for step in steps]

    def _follow(self, size: Sequence[int]) -> Calls:
        """All functions of torch that the network calls for images of one size."""
        network = self._network
        parts = tuple(map(id, (*network.modules(), *network.parameters(), *network.buffers())))
        settings = [each for module in network.modules() for each in (type(module), *vars(module).values())]
        plain = tuple(each for each in settings if isinstance(each, type | bool | int | float | str))  # and its mode
        key = (*self._shape[:2], *size, parts, plain)
        if key not in self._known:
            calls = self._pass((*self._shape[:2], *size))
            if len(self._known) >= _KNOWN_SIZES:
                self._known.clear()
            self._known[key] = calls
        return self._known[key]

    def _pass(self, shape: Sequence[int], visit: Callable[[Calls], None] | None = None) -> Calls:
        calls = Calls()

        def note(*call: Any) -> None:
            calls.note(*call)
            if visit is not None:
                visit(calls)

        try:
            with handing_on():  # a rule is computed without
                calls.end(follow(self._network, self._options, tuple(shape), note, calls.names))
            return calls
        except InputError:
            raise
        except Exception as error:
            raise UnsupportedNetworkError(
                f"{type(self._network).__name__} asks how large its features are, and cannot be followed at "
                f"{times(shape[2:])} pixels without values ({str(error).splitlines()[0]}); {_REMEDY}"
            ) from error

    def _refuse(self, index: int, size: Sequence[int]) -> NoReturn:
        """Raise at one call of the network on the canvas, so that the message names the layer."""
        depends = (
            f"depends on the size of the image: it is not the same for {times(size)} pixels as for "
            f"{times(self._shape[2:])}; {_REMEDY}"
        )

        def visit(calls: Calls) -> None:
            if len(calls) > index:
                raise UnsupportedNetworkError(f"{name_of(calls[-1].operation)} {depends}")

        self._pass(self._shape, visit)
        raise UnsupportedNetworkError(f"what {type(self._network).__name__} returns {depends}")


def _refuse_questions_in_compiled_code() -> None:
    if torch.compiler.is_compiling():
        raise UnsupportedNetworkError(
            "the network asks how large its features are, which compiled code cannot answer for images of several "
            "sizes; compute them without compiling."
        )


_WITHOUT_IMAGES = (convolution, transposed_convolution, pad)
"""Rules that take tensors or numbers beside masked features, none of which belong to images."""


def _refuse_places(operation: Any, like: Masked, values: Sequence[Any]) -> None:
    """Refuse plain tensors with a value for each position, unless these are alike but for rounding."""
    for each in values:
        if not isinstance(each, Tensor) or isinstance(each, Masked):
            continue
        axes = [axis - like.ndim + each.ndim for axis in like.spatial_axes]
        if all(axis < 0 or each.shape[axis] == 1 for axis in axes):
            continue
        first = each
        for axis in axes:
            first = first if axis < 0 else first.narrow(axis, 0, 1)
        rounding = 8 * torch.finfo(each.dtype).eps if each.is_floating_point() else 0.0
        if torch.compiler.is_compiling() or not torch.allclose(each, first, rtol=rounding, atol=0):
            raise UnsupportedNetworkError(
                f"{name_of(operation)} takes a tensor of shape {tuple(each.shape)} with a value for each position, "
                f"which fits one size of images alone; {_REMEDY}"
            )


def _may_be_of_images(values: Any, batch: int) -> bool:
    """Whether plain tensors or numbers among arguments may stand for the images of the batch."""
    for each in tree_leaves(values):
        if isinstance(each, Tensor):
            if not isinstance(each, Masked | nn.Parameter) and batch in each.shape:
                return True
        elif each == batch and type(each) is int:
            return True
    return False


def _filled(value: Any, parts: Iterator[Masked]) -> Any:
    """Arguments with other masked features, in the order of `masked_in`."""
    if isinstance(value, Masked):
        return next(parts)
    if type(value) in (list, tuple):
        return type(value)(_filled(each, parts) for each in value)
    return {name: _filled(each, parts) for name, each in value.items()} if type(value) is dict else value


def _rows_of(result: Any, rows: Tensor, of_images: int) -> Any:
    """Those of some images, which are an axis of a plain result."""
    if type(result) in (list, tuple):
        return type(result)(_rows_of(each, rows, of_images) for each in result)
    if not isinstance(result, Masked):
        return result.index_select(of_images, rows.to(result.device)) if isinstance(result, Tensor) else result
    shown, frame = result.visible.positions, result.visible.frame
    frame = None if frame is None else frame.expand_as(shown).index_select(0, rows)
    visible = VisibleMap(shown.index_select(0, rows.to(shown.device)), result.visible.options, frame=frame)
    return carry(result.features.index_select(result.axes[0], rows.to(result.device)), visible, result.axes)


def _joined(results: Sequence[Any], rows: Sequence[Tensor], operation: Any, of_images: int) -> Any:
    """One batch of the results for each size, whose images are an axis of a plain result."""
    first = results[0]
    if type(first) in (list, tuple):
        if any(len(each) != len(first) for each in results):
            raise NotImplementedError(
                f"{name_of(operation)} returns {' and '.join(sorted({str(len(each)) for each in results}))} parts for "
                f"images of several sizes; {_REMEDY}"
            )
        return type(first)(_joined(each, rows, operation, of_images) for each in zip(*results, strict=True))
    if not isinstance(first, Tensor):
        return first
    order = torch.cat(list(rows)).argsort().to(first.device)
    if not isinstance(first, Masked):
        shapes = [(*each.shape[:of_images], *each.shape[of_images + 1 :]) for each in results]
        if any(each != shapes[0] for each in shapes):
            raise NotImplementedError(
                f"layer masking cannot put what {name_of(operation)} returns for images of several sizes in one "
                f"tensor, of shapes {', '.join(map(str, shapes))} for an image; {_REMEDY}"
            )
        return torch.cat(list(results), of_images).index_select(of_images, order)
    sizes = [each.visible.size[1:] for each in results]
    longest = tuple(map(max, zip(*sizes, strict=True)))

    def placed(tensor: Tensor, axes: Sequence[int]) -> Tensor:
        frame = [0] * 2 * tensor.ndim
        for axis, length in zip(axes, longest, strict=True):
            frame[2 * (tensor.ndim - 1 - axis) + 1] = length - tensor.shape[axis]
        return F.pad(tensor, frame) if any(frame) else tensor

    features = torch.cat([placed(each.features, each.spatial_axes) for each in results], first.axes[0])
    positions = torch.cat([placed(each.visible.positions, first.visible.axes[1:]) for each in results])
    extent = None
    if any(size != longest for size in sizes):
        of_rows = torch.cat([torch.tensor([size] * len(each)) for size, each in zip(sizes, rows, strict=True)])
        extent = of_rows[order.cpu()]
    frame = None
    if any(each.visible.frame is not None for each in results):
        frames = [placed(_frame_of(each.visible), first.visible.axes[1:]) for each in results]
        frame = torch.cat(frames).index_select(0, order.cpu())
    shown = positions.index_select(0, order.to(positions.device))
    visible = VisibleMap(shown, first.visible.options, extent, frame=frame)
    joined = carry(features.index_select(first.axes[0], order), visible, first.axes)
    joined.rings = max(each.rings for each in results)
    if any(each.frame is not None or each.branches is not None for each in results):
        joined.parts = results
    return joined


def _frame_of(visible: VisibleMap) -> Tensor:
    """(B, 1, *size) bool."""
    return ~visible.image.expand_as(visible.positions)
