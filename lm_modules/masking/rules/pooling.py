"""Rules for pools with windows, global pools, and reductions over axes."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from maskrobust.lm_modules.masking.axes import (
    ADAPTIVE_AVERAGE_POOLS,
    AVERAGE_POOLS,
    Sizes,
    before,
    beside,
    channels_first,
)
from maskrobust.lm_modules.masking.masked import Masked, arrange, carry, check_images_first, ended, slide, without_axes
from maskrobust.lm_modules.masking.morphology import can_inspect
from maskrobust.lm_modules.masking.rules.merging import sum_branches
from maskrobust.lm_modules.masking.rules.pointwise import pointwise
from maskrobust.lm_modules.masking.table import OWN_RULE, Operation, masking_rule
from maskrobust.lm_modules.masking.visible_map import DependsOnSize, VisibleMap, Window

_MINIMA = torch.amin, Tensor.amin, torch.min, Tensor.min
_EXTREMES: dict[str, Any] = {"max": torch.return_types.max, "min": torch.return_types.min}


@masking_rule(
    F.max_pool1d, torch.max_pool1d, F.max_pool2d, torch.max_pool2d, F.max_pool3d, torch.max_pool3d, any_sizes=True
)  # fmt: skip
def max_pool(
    operation: Operation, x: Masked, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Masked:  # fmt: skip
    """Hidden positions count as 0; a window is visible when any position in it is.

    A window that holds the whole map is a global pool, with the largest visible position.
    """
    if return_indices:
        raise NotImplementedError(f"layer masking pools without return_indices, got return_indices=True; {OWN_RULE}")
    settings = kernel_size, stride or kernel_size, padding, dilation, ceil_mode
    is_global = _holds_map(x, *settings)

    def compute(features: Tensor) -> Tensor:
        if is_global is not None:
            features = torch.where(x.positions | ~is_global, features, torch.finfo(x.dtype).min)
        return torch.as_tensor(operation(features, *settings))

    pooled = slide(x, compute, *settings, hidden="zero", outside=-math.inf)
    return pooled if is_global is None else pooled.with_fresh(pooled.with_hidden_zero())  # finite everywhere


@masking_rule(*AVERAGE_POOLS.values(), any_sizes=True)
def average_pool(
    operation: Operation, x: Masked, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Masked:  # fmt: skip
    """Likewise; of a window that holds the whole map the mean of the visible positions, unless the divisor is given."""
    if divisor_override is not None and torch.compiler.is_exporting():
        raise NotImplementedError(
            f"layer masking exports average pools without a divisor of their own, which torch.onnx.export drops, got "
            f"divisor_override={divisor_override}; leave it out, and multiply what the pool returns."
        )
    settings = kernel_size, stride or kernel_size, padding, ceil_mode
    count = x.ndim - 2
    is_global = None if divisor_override is not None else _holds_map(x, *settings[:3], 1, ceil_mode)
    if x.visible.extent is None or divisor_override is not None or (count_include_pad and not ceil_mode):
        rest = (count_include_pad,) if count == 1 else (count_include_pad, divisor_override)
        pooled = _slide(x, lambda features: operation(features, *settings, *rest), *settings)
        return _of_visible(pooled, x, is_global)
    if torch.compiler.is_exporting() or count == 1:  # torch has no average pool of signals with a divisor of its own
        raise DependsOnSize
    window = Window.of(count, *settings[:3])
    sums = _slide(x, lambda features: operation(features, *settings, True, 1), *settings)
    divisors = _divisors(x.visible.extent, sums.visible.size[1:], window, count_include_pad)
    return _of_visible(sums.with_features(sums.features / divisors.to(sums.device, sums.dtype)), x, is_global)


@masking_rule(F.lp_pool1d, F.lp_pool2d, F.lp_pool3d, any_sizes=True)
def power_pool(
    operation: Operation, x: Masked, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Masked:
    """Likewise."""
    if ceil_mode and x.visible.extent is not None:
        raise DependsOnSize
    settings = kernel_size, stride or kernel_size
    return _slide(x, lambda features: operation(features, norm_type, *settings, ceil_mode), *settings, 0, ceil_mode)


@masking_rule(*ADAPTIVE_AVERAGE_POOLS.values(), any_sizes=True)
def adaptive_average_pool(_operation: Operation, x: Masked, output_size: Any) -> Masked | Tensor:
    """Each bin is the mean over its visible positions, and 0 where it has none; it is visible when it has one.

    Masking ends where there is one bin.
    """
    check_images_first(x)
    if _is_one(output_size):
        # As channels-last as a pool of channels-last features is, or a gate would make contiguous features of them.
        count = len(x.spatial_axes)
        means = x.mean_over_visible().to(x.dtype)
        return channels_first(means[(slice(None), *[None] * count)])
    visible = _bins(x, output_size)
    pool = ADAPTIVE_AVERAGE_POOLS[len(x.spatial_axes)]
    pooled: Tensor = pool(x.with_hidden_zero(), output_size)
    if not x.visible.everything:
        ones = x.visible.known.to(torch.promote_types(pooled.dtype, torch.float32))
        fraction = pool(ones, output_size)
        pooled = pooled / torch.where(visible.known, fraction, 1.0).to(pooled.dtype)
    return carry(pooled, visible)


@masking_rule(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d, any_sizes=True)
def adaptive_max_pool(
    operation: Operation, x: Masked, output_size: Any, return_indices: bool = False
) -> Masked | Tensor:
    """Each bin is the largest of its positions, hidden ones counting as 0.

    One bin alone is the largest visible position, and masking ends.
    """
    check_images_first(x)
    if return_indices:
        raise NotImplementedError(f"layer masking pools without return_indices, got return_indices=True; {OWN_RULE}")
    if _is_one(output_size):
        found: Tensor = operation(_with_least(x, operation), output_size)
        return _or_zero(found, x, x.spatial_axes, True)
    visible = _bins(x, output_size)
    return carry(operation(x.visible.cut(x.with_hidden_zero(), -math.inf), output_size), visible)


@masking_rule(torch.mean, any_sizes=True)
def mean(
    operation: Operation, x: Masked, dim: Any = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Masked | Tensor:
    """Over positions: of the visible ones, and masking ends where no positions are left; over the channels: at each.

    Over some axes of positions, such as the width: visible where any position is. A mean of such means counts each
    visible position once. Over branches that were stacked along axis 0: their `residual` sum, divided by their number.

    Raises:
        NotImplementedError: over other axes.
    """
    spatial = _spatial(x, dim)
    if x.branches is not None and _axes(x, dim) == {0} and not keepdim:
        summed = sum_branches(x, x.branches)
        return summed.with_fresh((summed.features / len(x.branches)).to(dtype or x.dtype))
    if not spatial:
        return _over_channels(x, dim, keepdim, operation(x, dim, keepdim, dtype=dtype))
    if x.is_map and spatial == x.spatial_axes and x.counts is None:
        means = x.mean_over_visible().to(dtype or x.dtype)
        return means.reshape(
            [1 if at in spatial else size for at, size in enumerate(x.shape) if keepdim or at not in spatial]
        )
    means, counts = mean_along(x, spatial, keepdim, dtype)
    result = _reduced(x, spatial, keepdim, means)
    if isinstance(result, Masked):
        result.counts = counts
    return result


@masking_rule(torch.sum, any_sizes=True)
def total(
    operation: Operation, x: Masked, dim: Any = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Masked | Tensor:
    """Over positions with 0 at hidden ones, as `mean`; over the channels position by position.

    Raises:
        NotImplementedError: over other axes.
    """
    if x.branches is not None and _axes(x, dim) == {0} and not keepdim:
        return sum_branches(x, x.branches)
    return _of_hidden_zero(x, dim, keepdim, lambda features: operation(features, dim, keepdim, dtype=dtype))


@masking_rule(torch.amax, torch.amin, any_sizes=True)
def extreme(operation: Operation, x: Masked, dim: Any = None, keepdim: bool = False) -> Masked | Tensor:
    """Likewise, over positions of the visible ones."""
    spatial = _spatial(x, dim)
    if not spatial:
        return _over_channels(x, dim, keepdim, operation(x, dim, keepdim))
    found = operation(_with_least(x, operation), dim, keepdim)
    return _reduced(x, spatial, keepdim, _or_zero(found, x, spatial, keepdim))


@masking_rule(torch.max, torch.min, any_sizes=True)
def extreme_with_place(operation: Operation, x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    """Likewise, with the place along the axis, such as the channel; of two tensors the larger at each position."""
    if isinstance(dim, Tensor):
        return pointwise(operation, x, dim)
    spatial = _spatial(x, dim)
    values, places = operation(_with_least(x, operation) if spatial else x, dim, keepdim)
    if not spatial:
        return _EXTREMES[operation.__name__](_over_channels(x, dim, keepdim, each) for each in (values, places))
    parts = (_or_zero(each, x, spatial, keepdim) for each in (values, places))
    return _EXTREMES[operation.__name__](_reduced(x, spatial, keepdim, each) for each in parts)


@masking_rule(torch.norm, any_sizes=True)
def norm(
    _operation: Operation, x: Masked, p: Any = "fro", dim: Any = None, keepdim: bool = False,
    dtype: torch.dtype | None = None,
) -> Masked | Tensor:  # fmt: skip
    """As `total`."""
    _refuse_least(x, p)
    return _of_hidden_zero(x, dim, keepdim, lambda features: torch.norm(features, p, dim, keepdim, dtype=dtype))


@masking_rule(torch.linalg.vector_norm, any_sizes=True)
def vector_norm(
    operation: Operation, x: Masked, ord: Any = 2, dim: Any = None, keepdim: bool = False, *,
    dtype: torch.dtype | None = None,
) -> Masked | Tensor:  # fmt: skip
    """Likewise."""
    _refuse_least(x, ord)
    return _of_hidden_zero(x, dim, keepdim, lambda features: operation(features, ord, dim, keepdim, dtype=dtype))


@masking_rule(torch.ones_like)
def ones_like(operation: Operation, x: Masked, **settings: Any) -> Masked | Tensor:
    """1 at visible positions, of which a sum is their number; everywhere in an image of which nothing is visible.

    Such a sum is a divisor, which is never 0. Plain where they are no floating-point numbers.
    """
    ones = operation(x.features, **settings)
    if not ones.is_floating_point() or ones.device != x.features.device:
        return torch.as_tensor(ones)
    if x.visible.everything:
        return carry(ones, x.visible, x.axes)
    shown, over = x.visible.known, x.visible.axes[1:]
    positions = shown | (shown.sum(over, keepdim=True) == 0)
    return carry(ones, x.visible.kept("ones", positions, None), x.axes)


def mean_along(
    x: Masked, axes: tuple[int, ...], keepdim: bool, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """The mean of the visible positions along some axes, and of how many each is, 0 where nothing is visible.

    Where features are such means themselves, each counts as many times as it stands for visible positions.
    """
    shown, zeroed = x.positions, x.with_hidden_zero()
    if x.counts is not None:
        shown, zeroed = x.counts, zeroed * x.counts
    along = [size if at in axes else one for at, (size, one) in enumerate(zip(x.shape, shown.shape, strict=True))]
    wide = torch.promote_types(dtype or x.dtype, torch.float32)
    counts = shown.expand(along).sum(axes, keepdim, dtype=wide)
    return (zeroed.sum(axes, keepdim, dtype=wide) / counts.clamp(min=1)).to(dtype or x.dtype), counts


def _divisors(extent: Tensor, size: Sizes, window: Window, count_include_pad: bool) -> Tensor:
    """How many positions the window of each result counts, as torch counts them, for each image by itself.

    Args:
        extent: (B, n) int64, sizes of the images.
        size: of the results.
        window: of the pool.
        count_include_pad: whether the padding counts.

    Returns:
        (B, 1, *size) int64; at least 1.
    """
    counts = extent.new_ones(len(extent), 1)
    for axis, (length, padding) in enumerate(zip(size, before(window.padding), strict=True)):
        start = torch.arange(length, device=extent.device) * window.stride[axis] - padding
        end = torch.minimum(start + window.kernel_size[axis], extent[:, axis, None] + padding)
        if not count_include_pad:
            start, end = start.clamp(min=0), torch.minimum(end, extent[:, axis, None])
        counts = counts[..., None] * (end - start).clamp(min=1).reshape(-1, *[1] * (axis + 1), length)
    return counts


def _slide(
    x: Masked, compute: Callable[[Tensor], Tensor], size: Any, stride: Any, padding: Any, ceil_mode: bool
) -> Masked:
    return slide(x, compute, size, stride, padding, 1, ceil_mode, hidden="zero")


def _bins(x: Masked, output_size: Any) -> VisibleMap:
    spread = partial(ADAPTIVE_AVERAGE_POOLS[len(x.spatial_axes)], output_size=output_size)
    return x.visible.derive(("adaptive", str(output_size)), spread)


def _is_one(output_size: Any) -> bool:
    return output_size == 1 or (not isinstance(output_size, int) and set(output_size) == {1})


def _refuse_least(x: Masked, order: Any) -> None:
    """A norm of negative order is led by the least values, so zeros outside of an image would count."""
    if x.visible.extent is not None and not isinstance(order, str) and order < 0:
        raise DependsOnSize


def _axes(x: Masked, dim: Any) -> set[int]:
    given: Sequence[int] = () if dim is None else (dim,) if isinstance(dim, int) else dim
    return {axis % x.ndim for axis in given}


def _spatial(x: Masked, dim: Any) -> tuple[int, ...]:
    """Which axes of a reduction are positions, such as height and width; of tokens all, if any is.

    Raises:
        NotImplementedError: it goes over images, or of a map over channels as well.
    """
    axes = _axes(x, dim)
    if not x.is_map:
        if not axes or any(map(x.has_images_along, axes)):
            raise NotImplementedError(f"layer masking reduces over axes of tokens, got axes {dim}; {OWN_RULE}")
        return tuple(sorted(axes)) if any(map(x.has_positions_along, axes)) else ()
    spatial = tuple(axis for axis in x.spatial_axes if axis in axes)
    if not axes or x.axes[0] in axes or (spatial and len(axes) > len(spatial)):
        raise NotImplementedError(_refusal(x, dim))
    return spatial


def _refusal(x: Masked, dim: Any) -> str:
    return (
        f"layer masking reduces over axes of positions, or over the channels, got axes {dim} of shape "
        f"{tuple(x.shape)}, whose axes {x.axes} are images and positions; {OWN_RULE}"
    )


def _of_hidden_zero(x: Masked, dim: Any, keepdim: bool, compute: Callable[[Tensor], Tensor]) -> Masked | Tensor:
    spatial = _spatial(x, dim)
    if not spatial:
        return _over_channels(x, dim, keepdim, compute(x))
    return _reduced(x, spatial, keepdim, compute(x.with_hidden_zero()))


def _over_channels(x: Masked, dim: Any, keepdim: bool, reduced: Tensor) -> Masked:
    # A copy: the gradient of a maximum divides by how many values equal it, and padding changes it where it is hidden.
    return arrange(reduced.clone(), x.reduced([*_axes(x, dim)], keepdim))


def _reduced(x: Masked, spatial: tuple[int, ...], keepdim: bool, reduced: Tensor) -> Masked | Tensor:
    """What has been computed over some axes of positions: visible where any is; plain where all have been."""
    if not x.is_map:
        return ended(reduced, x.reduced(spatial, keepdim))
    if spatial == x.spatial_axes:
        return reduced
    of_map = [x.axes.index(axis) for axis in spatial]
    kept = [at for at in range(1, len(x.axes)) if at not in of_map]

    def extent_after(extent: Tensor) -> Tensor:
        if not keepdim:
            return extent[:, [at - 1 for at in kept]]
        return extent.index_fill(1, extent.new_tensor(of_map) - 1, 1)

    def spread(numbers: Tensor) -> Tensor:
        return numbers.sum([at + 1 for at in of_map], keepdim)

    visible = x.visible.derive(("reduced", *of_map, keepdim), spread, extent_after=extent_after)
    axes = x.axes if keepdim else without_axes(tuple(x.axes[at] for at in (0, *kept)), spatial)
    return carry(reduced, visible, axes)


def _with_least(x: Masked, operation: Operation) -> Tensor:
    """The features with a number at hidden positions that no maximum takes, or no minimum."""
    limits = torch.finfo(x.dtype) if x.is_floating_point() else torch.iinfo(x.dtype)
    return torch.where(x.positions, x.features, limits.max if operation in _MINIMA else limits.min)


def _or_zero(found: Tensor, x: Masked, axes: tuple[int, ...], keepdim: bool) -> Tensor:
    """What was found along some axes of positions; 0 where none of them is visible."""
    return found.masked_fill(x.positions.sum(axes, keepdim) == 0, 0)


def _holds_map(x: Masked, size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Tensor | None:
    """Of which images a window of a pool without padding holds the whole map, () or (B, 1, ...) bool; None for none."""
    window, extent = Window.of(x.ndim - 2, size, stride, padding, dilation, ceil_mode), x.visible.extent
    if any(window.padding) or max(window.dilation) > 1 or x.visible.everything:
        return None
    if extent is None:
        is_global = all(size <= kernel for size, kernel in zip(x.visible.size[1:], window.kernel_size, strict=True))
        return x.visible.positions.new_ones(()) if is_global else None
    holds = (extent <= extent.new_tensor(window.kernel_size)).all(1, keepdim=True)
    if can_inspect(holds) and not holds.any():
        return None
    return beside(holds.to(x.device), len(window.kernel_size))


def _of_visible(pooled: Masked, x: Masked, is_global: Tensor | None) -> Masked:
    """Averages of images whose one window holds the whole map, divided by the fraction that is visible."""
    if is_global is None:
        return pooled
    extent, size = x.visible.extent, math.prod(x.visible.size[1:])
    fraction = x.visible.counts / (size if extent is None else extent.prod(1, keepdim=True).to(x.device))
    fractions = beside(fraction, len(x.visible.size) - 1)
    return pooled.with_fresh(pooled.features / torch.where(is_global, fractions, 1.0).to(pooled.dtype))
