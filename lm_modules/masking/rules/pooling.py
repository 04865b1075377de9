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
    channels_first,
)
from maskrobust.lm_modules.masking.masked import Masked, carry, check_images_first, slide, without_axes
from maskrobust.lm_modules.masking.rules.merging import sum_branches
from maskrobust.lm_modules.masking.rules.pointwise import OWN_RULE
from maskrobust.lm_modules.masking.table import Operation, masking_rule
from maskrobust.lm_modules.masking.visible_map import DependsOnSize, VisibleMap, Window


@masking_rule(
    F.max_pool1d, torch.max_pool1d, F.max_pool2d, torch.max_pool2d, F.max_pool3d, torch.max_pool3d, any_sizes=True
)  # fmt: skip
def max_pool(
    operation: Operation, x: Masked, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Masked:  # fmt: skip
    """Hidden positions count as 0; a window is visible when any position in it is."""
    if return_indices:
        raise NotImplementedError(f"layer masking pools without return_indices, got return_indices=True; {OWN_RULE}")
    settings = kernel_size, stride or kernel_size, padding, dilation, ceil_mode
    return slide(x, lambda features: operation(features, *settings), *settings, hidden="zero", outside=-math.inf)


@masking_rule(*AVERAGE_POOLS.values(), any_sizes=True)
def average_pool(
    operation: Operation, x: Masked, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Masked:  # fmt: skip
    """Likewise."""
    if divisor_override is not None and torch.compiler.is_exporting():
        raise NotImplementedError(
            f"layer masking exports average pools without a divisor of their own, which torch.onnx.export drops, got "
            f"divisor_override={divisor_override}; leave it out, and multiply what the pool returns."
        )
    settings = kernel_size, stride or kernel_size, padding, ceil_mode
    count = x.ndim - 2
    if x.visible.extent is None or divisor_override is not None or (count_include_pad and not ceil_mode):
        rest = (count_include_pad,) if count == 1 else (count_include_pad, divisor_override)
        return _slide(x, lambda features: operation(features, *settings, *rest), *settings)
    if torch.compiler.is_exporting() or count == 1:  # torch has no average pool of signals with a divisor of its own
        raise DependsOnSize
    window = Window.of(count, *settings[:3])
    sums = _slide(x, lambda features: operation(features, *settings, True, 1), *settings)
    divisors = _divisors(x.visible.extent, sums.visible.size[1:], window, count_include_pad)
    return sums.with_features(sums.features / divisors.to(sums.device, sums.dtype))


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
    """Each bin is the largest of its positions, hidden ones counting as 0; masking ends where there is one bin."""
    check_images_first(x)
    if return_indices:
        raise NotImplementedError(f"layer masking pools without return_indices, got return_indices=True; {OWN_RULE}")
    visible = None if _is_one(output_size) else _bins(x, output_size)
    pooled = torch.as_tensor(operation(x.visible.cut(x.with_hidden_zero(), -math.inf), output_size))
    return pooled if visible is None else carry(pooled, visible)


@masking_rule(torch.mean, any_sizes=True)
def mean(
    operation: Operation, x: Masked, dim: Any = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Masked | Tensor:
    """Over height and width: of the visible positions, and masking ends; over the channels: position by position.

    Over height or width alone, kept with size 1: of the visible positions along it, which is visible where any is. Over
    branches that were stacked along axis 0: their `residual` sum, divided by their number.

    Raises:
        NotImplementedError: over other axes.
    """
    spatial = _spatial(x, dim)
    if x.branches is not None and _axes(x, dim) == {0} and not keepdim:
        summed = sum_branches(x, x.branches)
        return summed.with_fresh((summed.features / len(x.branches)).to(dtype or x.dtype))
    if spatial == x.spatial_axes:
        means = x.mean_over_visible().to(dtype or x.dtype)
        kept = [1 if axis in spatial else size for axis, size in enumerate(x.shape) if keepdim or axis not in spatial]
        return means.reshape(kept)
    if spatial and keepdim and x.is_images_first:
        size = tuple(1 if axis in spatial else None for axis in x.spatial_axes)
        pooled = adaptive_average_pool(ADAPTIVE_AVERAGE_POOLS[len(size)], x, size)
        return pooled if dtype is None else pooled.to(dtype)
    return _over_channels(x, spatial, dim, keepdim, operation(x, dim, keepdim, dtype=dtype))


@masking_rule(torch.sum, any_sizes=True)
def total(
    operation: Operation, x: Masked, dim: Any = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Masked | Tensor:
    """Over height and width with 0 at hidden positions, and masking ends; over the channels position by position.

    Raises:
        NotImplementedError: over other axes.
    """
    spatial = _spatial(x, dim)
    if x.branches is not None and _axes(x, dim) == {0} and not keepdim:
        return sum_branches(x, x.branches)
    return _ended_or_over_channels(
        x, spatial, dim, keepdim, lambda features: operation(features, dim, keepdim, dtype=dtype)
    )


@masking_rule(torch.amax, any_sizes=True)
def largest(operation: Operation, x: Masked, dim: Any = None, keepdim: bool = False) -> Masked | Tensor:
    """Likewise."""
    spatial = _spatial(x, dim)
    if spatial == x.spatial_axes and x.visible.extent is not None:
        if not x.is_images_first:
            raise DependsOnSize
        return torch.as_tensor(operation(x.visible.cut(x.with_hidden_zero(), -math.inf), dim, keepdim))
    return _ended_or_over_channels(x, spatial, dim, keepdim, lambda features: operation(features, dim, keepdim))


@masking_rule(torch.norm, any_sizes=True)
def norm(
    _operation: Operation, x: Masked, p: Any = "fro", dim: Any = None, keepdim: bool = False,
    dtype: torch.dtype | None = None,
) -> Masked | Tensor:  # fmt: skip
    """Likewise."""
    spatial = _spatial(x, dim)
    _refuse_least(x, p)
    return _ended_or_over_channels(
        x, spatial, dim, keepdim, lambda features: torch.norm(features, p, dim, keepdim, dtype=dtype)
    )


@masking_rule(torch.linalg.vector_norm, any_sizes=True)
def vector_norm(
    operation: Operation, x: Masked, ord: Any = 2, dim: Any = None, keepdim: bool = False, *,
    dtype: torch.dtype | None = None,
) -> Masked | Tensor:  # fmt: skip
    """Likewise."""
    spatial = _spatial(x, dim)
    _refuse_least(x, ord)
    return _ended_or_over_channels(
        x, spatial, dim, keepdim, lambda features: operation(features, ord, dim, keepdim, dtype=dtype)
    )


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
    """Which axes of a reduction are height and width; refused where it goes over images, or over channels as well."""
    axes = _axes(x, dim)
    spatial = tuple(axis for axis in x.spatial_axes if axis in axes)
    if not axes or x.axes[0] in axes or (spatial and len(axes) > len(spatial)):
        raise NotImplementedError(_refusal(x, dim))
    return spatial


def _refusal(x: Masked, dim: Any) -> str:
    return (
        f"layer masking reduces over all axes of positions together, or over the channels, got axes {dim} of shape "
        f"{tuple(x.shape)}, whose axes {x.axes} are images and positions; {OWN_RULE}"
    )


def _ended_or_over_channels(
    x: Masked, spatial: tuple[int, ...], dim: Any, keepdim: bool, compute: Callable[[Tensor], Tensor]
) -> Masked | Tensor:
    if spatial == x.spatial_axes:
        return torch.as_tensor(compute(x.with_hidden_zero()))
    # A copy: the gradient of a maximum divides by how many values equal it, and padding changes it where it is hidden.
    return _over_channels(x, spatial, dim, keepdim, compute(x).clone())


def _over_channels(x: Masked, spatial: tuple[int, ...], dim: Any, keepdim: bool, reduced: Tensor) -> Masked:
    if spatial:
        raise NotImplementedError(_refusal(x, dim))
    return carry(reduced, x.visible, x.axes if keepdim else without_axes(x.axes, _axes(x, dim)))
