"""Plan the padding of holes: which positions later layers read, and from which neighbours each is filled in.

A plan depends on `visible` alone, which is one byte a position, so in eager mode it is made on the CPU with NumPy. All
images lie in one flat array, framed with zeros: a step to a neighbour is a slice of it, and NumPy works on whole
slices many bytes at a time. In channels-last memory a feature map is a matrix with one row for each position,
(B x H x W, C), and picking rows is a plain copy: where hidden positions touch visible ones is a thin line, so padding
only these rows costs far less than padding everywhere. `functional` does the same with tensors under `torch.compile`,
which cannot trace how many positions a ring has.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from maskrobust.lm_modules.masking import functional, kernels
from maskrobust.lm_modules.masking.axes import (
    Padding,
    Sizes,
    after,
    before,
    channels_first,
    channels_last,
    clone_channels_last,
    is_channels_last,
    rows_first,
)
from maskrobust.lm_modules.masking.torch_private import is_traced, is_transformed

_Array = NDArray[Any]
_Map = NDArray[np.bool_]

_COUNTS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.int64)
_WEIGHTS = (1.0 / _COUNTS.clip(min=1)).astype(np.float32)
_CODE = np.array([[1, 2, 4], [8, 0, 16], [32, 64, 128]], np.float32)
"""A bit for each neighbour, row by row from the left one above."""
_DOWN, _ACROSS = np.array([-1, -1, -1, 0, 0, 1, 1, 1]), np.array([-1, 0, 1, -1, 1, -1, 0, 1])

_NUMBERS = (torch.complex128, torch.int64, torch.int32, torch.int16)


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

    @cached_property
    def exact_weights(self) -> Tensor:
        """`weights` in float64."""
        counts = self.starts.diff(append=self.starts.new_tensor([len(self.neighbours)]))
        return counts.double().reciprocal().repeat_interleave(counts)

    def weights_in(self, dtype: torch.dtype) -> Tensor:
        """`weights` in the dtype of features."""
        if self.weights.dtype == dtype:
            return self.weights
        return self.exact_weights if dtype == torch.float64 else self.weights.to(dtype)

    def values(self, rows: Tensor) -> Tensor:
        """What the ring is filled with, (N, C), from rows (., C)."""
        weights = self.weights_in(rows.dtype)
        # F.embedding_bag takes as long to look at its arguments as a small ring.
        return torch.embedding_bag(rows, self.neighbours, self.starts, False, 0, False, weights)[0]


@dataclass(frozen=True)
class CopiedRows:
    """Padding that copies visible positions.

    Attributes:
        rows: (N,) int64, the rows that are filled.
        neighbours: (N,) int64, the row of the visible position that each one copies.
    """

    rows: Tensor
    neighbours: Tensor

    def values(self, rows: Tensor) -> Tensor:
        """What the rows are filled with, (N, C), from rows (., C)."""
        return rows.index_select(0, self.neighbours)


PaddingRows = RingRows | CopiedRows


class PaddingPlan(Protocol):
    """A plan of padding for features that are channels-last."""

    def fill(self, features: Tensor) -> None:
        """Fill hidden positions of features (B, C, H, W) where they lie."""

    def zero(self, features: Tensor) -> None:
        """Write 0 where `fill` writes."""


class RowPlan(list[PaddingRows]):
    """A plan as rows, that are filled one after the other."""

    def fill(self, features: Tensor) -> None:
        """See `PaddingPlan`."""
        rows = to_rows(features)
        numbers = _large_numbers(rows)
        for ring in self:
            numbers.index_copy_(0, ring.rows, ring.values(rows).view(numbers.dtype))

    def zero(self, features: Tensor) -> None:
        """See `PaddingPlan`."""
        for ring in self:
            zero_rows(to_rows(features), ring.rows)


def ring_rows(visible: Tensor, inside: Tensor | None = None) -> Iterator[RingRows]:
    """The plan of `functional.neighbour_rings` as rows, ring by ring until nothing is left to fill.

    Args:
        visible: (B, 1, H, W) bool.
        inside: as there.
    """
    if visible.ndim == 3:  # signals are images of one line
        yield from ring_rows(visible.unsqueeze(2), None if inside is None else inside.unsqueeze(2))
        return
    if visible.ndim == 5:
        yield from _ring_rows_of_volumes(visible, inside)
        return
    import cv2

    batch, _, height, width = visible.shape
    known = np.zeros((batch * (height + 1), width), np.uint8)  # a line of zeros ends each image
    hidden = np.zeros_like(known)

    def images(lines: _Array) -> _Array:
        return lines.reshape(batch, height + 1, width)[:, :height]

    shown = visible.numpy()[:, 0]
    images(known)[...] = shown
    images(hidden)[...] = ~shown if inside is None else inside.numpy()[:, 0] & ~shown
    steps = _DOWN * width + _ACROSS
    while True:
        codes = cv2.filter2D(known, -1, _CODE, borderType=cv2.BORDER_CONSTANT) * hidden
        in_ring = codes != 0
        rows = np.flatnonzero(images(in_ring))
        if rows.size == 0:
            return
        codes_of_rows = images(codes).ravel().take(rows)
        places = np.flatnonzero(np.unpackbits(codes_of_rows, bitorder="little").view(np.bool_))
        counts = _COUNTS.take(codes_of_rows)
        neighbours = rows.repeat(counts)
        neighbours += steps.take(places & 7)
        arrays = rows, neighbours, counts.cumsum() - counts, _WEIGHTS.take(codes_of_rows).repeat(counts)
        yield RingRows(*map(torch.from_numpy, arrays))
        known |= in_ring.view(np.uint8)
        hidden ^= in_ring.view(np.uint8)


def _ring_rows_of_volumes(visible: Tensor, inside: Tensor | None) -> Iterator[RingRows]:
    """`ring_rows` for volumes: the neighbours of each row of a ring are looked up one by one."""
    frame, size = ((0, 0), (1, 1), (1, 1), (1, 1)), visible.shape[2:]
    known = np.pad(visible[:, 0].numpy(), frame)
    hidden = np.pad((~visible if inside is None else inside & ~visible)[:, 0].numpy(), frame)
    row_of = np.pad(np.arange(visible.numel()).reshape(-1, *size), frame).ravel()
    cube = np.arange(known[0].size).reshape(known.shape[1:])[:3, :3, :3].ravel()
    steps = np.delete(cube - cube[13], 13)
    while True:
        near = F.max_pool3d(torch.from_numpy(known).float(), kernel_size=3, stride=1, padding=1).numpy() > 0
        places = np.flatnonzero(near & hidden)
        if places.size == 0:
            return
        around = places[:, None] + steps
        is_known = known.ravel()[around]
        counts = is_known.sum(axis=1)
        weights = (1.0 / counts).astype(np.float32).repeat(counts)
        arrays = row_of[places], row_of[around][is_known], counts.cumsum() - counts, weights
        yield RingRows(*map(torch.from_numpy, arrays))
        known.flat[places] = True
        hidden.flat[places] = False


def mirrored_rows(visible: Tensor, rings: int, inside: Tensor | None = None) -> RowPlan:
    """The plan of `functional.mirrored_places` as rows: one `CopiedRows`, or none where there is nothing to fill.

    Args:
        visible: (B, 1, H, W) bool.
        rings: at least 1.
        inside: as there.
    """
    places = functional.mirrored_places(visible, rings, inside)
    batch, number = places.shape
    copied = (places + torch.arange(0, batch * number, number)[:, None]).flatten()
    rows = (copied != torch.arange(batch * number)).nonzero().flatten()
    return RowPlan([CopiedRows(rows, copied[rows])] if len(rows) else [])


PADDINGS: dict[str, Callable[..., RowPlan]] = {
    "mean": lambda visible, rings, inside=None: RowPlan(islice(ring_rows(visible, inside), rings)),
    "mirror": mirrored_rows,
}
"""Plans of padding by the name of the padding, from (B, 1, H, W) bool and a number of rings, and `inside` if given."""


def padding_kernels() -> Any:
    """`kernels.padding`, which imports Triton when a GPU first needs it."""
    from maskrobust.lm_modules.masking.kernels import padding

    return padding


def can_inspect(positions: Tensor) -> bool:
    """Whether a mask can be inspected without a device sync or a graph break, and features be changed in place.

    Not while compiling, where the answer would have to be a constant; nor on an accelerator, where every layer would
    have to wait for it; nor under the transforms of `torch.func` and in forward mode, where a tensor has
    further values beside those that lie in its memory.
    """
    is_plain_tensor = type(positions) is Tensor  # and no stand-in, such as a fake one
    is_on_cpu = is_plain_tensor and positions.device.type == "cpu"
    return is_on_cpu and not torch.compiler.is_compiling() and not is_transformed()


def hide(images: Tensor, visible: Tensor) -> Tensor:
    """`functional.hide`; by OpenCV where few channels lie side by side, for which torch takes ten times as long."""
    records = images.requires_grad and torch.is_grad_enabled()
    is_image = images.ndim == 4 and 1 < images.shape[1] < 5 and images.dtype == torch.float32 and images.numel() > 0
    if records or not is_image or not (can_inspect(images) and can_inspect(visible)) or not is_channels_last(images):
        return functional.hide(images, visible)
    import cv2

    pixels, shown = rows_first(images.detach()).flatten(0, 1), visible.flatten(0, 2)
    hidden_zero = cv2.copyTo(pixels.numpy(), shown.numpy().view(np.uint8))
    return channels_first(torch.from_numpy(hidden_zero).unflatten(0, (len(images), -1)))


def propagate_visible(
    visible: Tensor, kernel_size: Sizes, stride: Sizes, padding: Padding, dilation: Sizes, ceil_mode: bool = False
) -> Tensor:
    """`functional.propagate_visible`."""
    if is_traced():
        propagated: Tensor = _propagate_in_run(visible, kernel_size, stride, padding, dilation, ceil_mode)
        return propagated
    if visible.ndim == 5 or not can_inspect(visible):  # of volumes the pass takes far longer than this
        return functional.propagate_visible(visible, kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)
    if visible.ndim == 3:  # signals are images of one line
        of_images = (1, *kernel_size), (1, *stride), (*padding, 0, 0), (1, *dilation), ceil_mode
        return propagate_visible(visible.unsqueeze(2), *of_images).squeeze(2)
    import cv2

    batch, _, *sizes = visible.shape
    left, _, top, _ = padding
    rows, columns = output_size(sizes, kernel_size, stride, padding, dilation, ceil_mode)
    reach = [(kernel - 1) * spread + 1 for kernel, spread in zip(kernel_size, dilation, strict=True)]
    down, across = stride
    height = max(top + sizes[0], (rows - 1) * down + reach[0])
    width = max(left + sizes[1], (columns - 1) * across + reach[1])
    framed = np.zeros((batch, height, width), np.uint8)
    framed[:, top : top + sizes[0], left : left + sizes[1]] = visible.numpy()[:, 0]
    window = np.zeros(reach, np.uint8)
    window[:: dilation[0], :: dilation[1]] = 1
    seen = cv2.dilate(framed.reshape(-1, width), window, anchor=(0, 0)).reshape(framed.shape)
    starts = seen[:, : (rows - 1) * down + 1 : down, : (columns - 1) * across + 1 : across]
    return torch.from_numpy(starts.astype(np.bool_)[:, None])


@torch.library.custom_op("maskrobust::propagate_visible", mutates_args=[])
def _propagate_in_run(
    visible: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> Tensor:
    """In one operation: of a mask that several make, the partitioner keeps some of what layers compute from it."""
    window = tuple(kernel_size), tuple(stride), tuple(padding), tuple(dilation), ceil_mode
    return propagate_visible(visible, *window)


@_propagate_in_run.register_fake
def _(visible: Tensor, *window: Any) -> Tensor:
    return visible.new_empty(*visible.shape[:2], *output_size(visible.shape[2:], *window))


def output_size(
    size: Sequence[int], kernel_size: Sizes, stride: Sizes, padding: Padding, dilation: Sizes, ceil_mode: bool = False
) -> list[int]:
    """Size after a window; in ceil mode it may run over the end, but not start in the padding there."""
    axes = zip(size, before(padding), after(padding), kernel_size, stride, dilation, strict=True)
    found = []
    for length, ahead, behind, kernel, step, spread in axes:
        room = length + ahead + behind - (kernel - 1) * spread - 1
        found.append(min(-(-room // step) + 1, -(-(length + ahead) // step)) if ceil_mode else room // step + 1)
    return found


def to_rows(features: Tensor) -> Tensor:
    """(B, C, H, W) as (B x H x W, C); a view where the features are channels-last, else a copy."""
    return rows_first(features).reshape(-1, features.shape[1])


def row_indices(positions: Tensor) -> Tensor:
    """Rows of the True positions of a (B, 1, H, W) bool map, (N,) int64 ascending."""
    return torch.from_numpy(np.flatnonzero(positions.numpy()))  # four times as fast as torch


def pad_rows(
    features: Tensor, plan: PaddingPlan, *, detach_padding: bool = True, owns_gradient: bool = False
) -> Tensor:
    """Padding as in `functional`, leaving hidden positions out of reach as they are.

    Values at hidden positions mean nothing, so with detached padding channels-last features are filled where they lie:
    `features` itself changes at hidden positions, and nothing is copied. Backward passes of earlier operations read
    these positions only together with a gradient of 0.

    Args:
        features: (B, C, H, W) float; read at visible positions only.
        plan: from `PADDINGS`, or a `kernels.padding.RingMap`; the former if padding is not detached.
        detach_padding: filled values carry no gradient.
        owns_gradient: nobody else holds the gradient at the result, as where a convolution alone takes it, so that it
            may be changed in place.

    Returns:
        (B, C, H, W) channels-last, dtype of `features`.
    """
    if isinstance(plan, RowPlan) and not plan:
        return features
    if detach_padding and not torch.is_grad_enabled():
        return _padded_in_place(features, plan)
    if detach_padding:
        padded: Tensor = _PadRows.apply(features, plan, owns_gradient)  # type: ignore[no-untyped-call]
        return padded
    assert isinstance(plan, RowPlan)
    rows = to_rows(features)
    for ring in plan:
        rows = rows.index_copy(0, ring.rows, ring.values(rows))
    return channels_first(rows.reshape(rows_first(features).shape))


def pad_in_run(features: Tensor, visible: Tensor, inside: Tensor | None, rings: int, padding: str) -> Tensor:
    """`pad_rows` with detached padding for `torch.compile`: one operation of torch, which plans when it runs.

    Args:
        features: (B, C, H, W) float; read at visible positions only.
        visible: (B, 1, H, W) bool.
        inside: as in `functional.neighbour_rings`.
        rings: at least 1.
        padding: a name in `PADDINGS`.

    Returns:
        (B, C, H, W) channels-last, dtype of `features`; equal to `features` at visible positions bit for bit.
    """
    padded: Tensor = _PadInRun.apply(features, visible, inside, rings, padding)  # type: ignore[no-untyped-call]
    return padded


class _PadInRun(torch.autograd.Function):
    """Nothing but the visible positions is kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, visible: Tensor, inside: Tensor | None, rings: int, padding: str) -> Tensor:
        ctx.save_for_backward(visible)
        filled = clone_channels_last(features)  # compiled, whatever comes before writes it
        _fill_rows(filled, visible, inside, rings, padding)
        return filled

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return functional.hide(gradients[0], *ctx.saved_tensors), None, None, None, None


@torch.library.custom_op("maskrobust::fill_rows", mutates_args=["features"])
def _fill_rows(features: Tensor, visible: Tensor, inside: Tensor | None, rings: int, padding: str) -> None:
    if len(features) == 0:
        return
    if kernels.are_on(visible.device.type):
        by_kernels = padding_kernels()
        by_kernels.RingMap(by_kernels.distances_up_to(rings, visible), rings).fill(features)
        return
    maps = [None if each is None else each.numpy().tobytes() for each in (visible, inside)]
    filled = _padded_in_place(features, _plan_of_bytes(*maps, visible.shape, rings, padding))
    if filled is not features:
        features.copy_(filled)


@lru_cache(maxsize=1)  # compiled code keeps no plan with a map, and most layers see the map of the layer before
def _plan_of_bytes(visible: bytes, inside: bytes | None, shape: torch.Size, rings: int, padding: str) -> RowPlan:
    maps = [each and torch.frombuffer(bytearray(each), dtype=torch.bool).view(shape) for each in (visible, inside)]
    return PADDINGS[padding](maps[0], rings, maps[1])


def zeroed(features: Tensor, zero: Callable[[Tensor], None]) -> Tensor:
    """0 at some positions; channels-last features that no gradient is asked of are changed where they lie.

    Args:
        features: (B, C, H, W) float.
        zero: writes 0 into channels-last features.

    Returns:
        (B, C, H, W) channels-last.
    """
    if torch.is_grad_enabled() or not is_channels_last(features):
        features = clone_channels_last(features)
    zero(features)
    return features


class _PadRows(torch.autograd.Function):
    """Padding whose filled rows carry no gradient."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, plan: PaddingPlan, owns_gradient: bool) -> Tensor:
        ctx.plan, ctx.owns_gradient = plan, owns_gradient
        # Through `data`, for autograd would otherwise refuse the changed values at positions that it multiplies by 0.
        padded = _padded_in_place(features.data, plan)
        return features.view_as(features) if padded.data_ptr() == features.data_ptr() else padded

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradients[0]
        if torch.is_grad_enabled():  # a gradient of the gradient is asked for
            kept = torch.ones_like(gradient[:, :1], memory_format=torch.contiguous_format)
            ctx.plan.zero(kept)
            return gradient.masked_fill(kept == 0, 0.0), None, None
        if not ctx.owns_gradient or not is_channels_last(gradient):
            gradient = clone_channels_last(gradient)
        ctx.plan.zero(gradient)
        return gradient, None, None


def _padded_in_place(features: Tensor, plan: PaddingPlan) -> Tensor:
    if not is_channels_last(features):
        features = channels_last(features)
    plan.fill(features)
    return features


def zero_rows(rows: Tensor, indices: Tensor) -> None:
    """Some of the rows (N, C) become 0 where they lie."""
    _large_numbers(rows).index_fill_(0, indices, 0)


def _large_numbers(rows: Tensor) -> Tensor:
    """The same memory as the largest numbers that a row is made of: torch copies rows number by number."""
    size = rows.shape[1] * rows.element_size()
    # Through `data`: a backward pass may need these rows, where it multiplies them by a gradient of 0.
    return rows.data.view(next(number for number in _NUMBERS if size % number.itemsize == 0))
