"""Pools with windows, global pools, and reductions over axes."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from maskrobust.lm_modules.masking.masked import Masked, carry, without_axes
from maskrobust.lm_modules.masking.rules.convolution import pair, slide, symmetric
from maskrobust.lm_modules.masking.rules.merging import sum_branches
from maskrobust.lm_modules.masking.rules.pointwise import OWN_RULE, check_images_first
from maskrobust.lm_modules.masking.table import Operation, masking_rule
from maskrobust.lm_modules.masking.visible_map import VisibleMap, Window


@masking_rule(F.max_pool2d, torch.max_pool2d)
def max_pool(
    operation: Operation, x: Masked, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Masked:  # fmt: skip
    """Hidden positions count as 0; a window is visible when any position in it is."""
    if return_indices:
        raise NotImplementedError(f"layer masking pools without return_indices, got return_indices=True; {OWN_RULE}")
    settings = kernel_size, stride or kernel_size, padding, dilation, ceil_mode
    return _slide(x, *settings, lambda features: operation(features, *settings))


@masking_rule(F.max_pool2d_with_indices)
def max_pool_with_indices(_operation: Operation, *_args: Any, **_kwargs: Any) -> Masked:
    """Refused."""
    raise NotImplementedError(f"layer masking pools without return_indices, got return_indices=True; {OWN_RULE}")


@masking_rule(F.avg_pool2d)
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
    settings = kernel_size, stride or kernel_size, padding, ceil_mode, count_include_pad, divisor_override
    return _slide(x, *settings[:3], 1, ceil_mode, lambda features: operation(features, *settings))


@masking_rule(F.lp_pool2d)
def power_pool(
    operation: Operation, x: Masked, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
) -> Masked:
    """Likewise."""
    settings = kernel_size, stride or kernel_size
    return _slide(x, *settings, 0, 1, ceil_mode, lambda features: operation(features, norm_type, *settings, ceil_mode))


def _slide(
    x: Masked, size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool, compute: Callable[[Tensor], Tensor]
) -> Masked:
    window = Window(pair(size), pair(stride), symmetric(padding), pair(dilation), ceil_mode)
    return slide(x, window, compute, hidden="zero")


@masking_rule(F.adaptive_avg_pool2d)
def adaptive_average_pool(_operation: Operation, x: Masked, output_size: Any) -> Masked | Tensor:
    """Each bin is the mean over its visible positions, and 0 where it has none; it is visible when it has one.

    Masking ends where there is one bin.
    """
    check_images_first(x)
    if _is_one(output_size):
        # As channels-last as a pool of channels-last features is, or a gate would make contiguous features of them.
        return x.mean_over_visible().to(x.dtype)[:, None, None].permute(0, 3, 1, 2)
    pooled = F.adaptive_avg_pool2d(x.with_hidden_zero(), output_size)
    visible = _bins(x, output_size)
    if not x.visible.everything:
        ones = x.visible.positions.to(torch.promote_types(pooled.dtype, torch.float32))
        fraction = F.adaptive_avg_pool2d(ones, output_size)
        pooled = pooled / torch.where(visible.positions, fraction, 1.0).to(pooled.dtype)
    return carry(pooled, visible)


@masking_rule(F.adaptive_max_pool2d)
def adaptive_max_pool(
    operation: Operation, x: Masked, output_size: Any, return_indices: bool = False
) -> Masked | Tensor:
    """Each bin is the largest of its positions, hidden ones counting as 0; masking ends where there is one bin."""
    check_images_first(x)
    if return_indices:
        raise NotImplementedError(f"layer masking pools without return_indices, got return_indices=True; {OWN_RULE}")
    pooled = torch.as_tensor(operation(x.with_hidden_zero(), output_size))
    return pooled if _is_one(output_size) else carry(pooled, _bins(x, output_size))


def _bins(x: Masked, output_size: Any) -> VisibleMap:
    spread = partial(F.adaptive_avg_pool2d, output_size=output_size)
    return x.visible.derive(("adaptive", str(output_size)), spread)


def _is_one(output_size: Any) -> bool:
    return output_size == 1 or (not isinstance(output_size, int) and tuple(output_size) == (1, 1))


@masking_rule(torch.mean)
def mean(
    operation: Operation, x: Masked, dim: Any = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Masked | Tensor:
    """Over height and width: of the visible positions, and masking ends; over the channels: position by position.

    Over height or width alone, kept with size 1: of the visible positions along it, which is visible where any is.

    Raises:
        NotImplementedError: over other axes.
    """
    spatial = _spatial(x, dim)
    if spatial == x.spatial_axes:
        means = x.mean_over_visible().to(dtype or x.dtype)
        kept = [1 if axis in spatial else size for axis, size in enumerate(x.shape) if keepdim or axis not in spatial]
        return means.reshape(kept)
    if spatial and keepdim and x.is_images_first:
        size = (1, None) if spatial == (2,) else (None, 1)
        pooled = adaptive_average_pool(F.adaptive_avg_pool2d, x, size)
        return pooled if dtype is None else pooled.to(dtype)
    return _over_channels(x, spatial, dim, keepdim, operation(x, dim, keepdim, dtype=dtype))


@masking_rule(torch.sum)
def total(
    operation: Operation, x: Masked, dim: Any = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Masked | Tensor:
    """Over height and width with 0 at hidden positions, and masking ends; over the channels position by position.

    Raises:
        NotImplementedError: over other axes.
    """
    spatial = _spatial(x, dim)
    if x.branches is not None and _axes(x, dim) == {0} and not keepdim:
        return sum_branches(x.branches)
    return _ended_or_over_channels(
        x, spatial, dim, keepdim, lambda features: operation(features, dim, keepdim, dtype=dtype)
    )


@masking_rule(torch.amax)
def largest(operation: Operation, x: Masked, dim: Any = None, keepdim: bool = False) -> Masked | Tensor:
    """Likewise."""
    spatial = _spatial(x, dim)
    return _ended_or_over_channels(x, spatial, dim, keepdim, lambda features: operation(features, dim, keepdim))


@masking_rule(torch.norm)
def norm(
    _operation: Operation, x: Masked, p: Any = "fro", dim: Any = None, keepdim: bool = False,
    dtype: torch.dtype | None = None,
) -> Masked | Tensor:  # fmt: skip
    """Likewise."""
    spatial = _spatial(x, dim)
    return _ended_or_over_channels(
        x, spatial, dim, keepdim, lambda features: torch.norm(features, p, dim, keepdim, dtype=dtype)
    )


@masking_rule(torch.linalg.vector_norm)
def vector_norm(
    operation: Operation, x: Masked, ord: Any = 2, dim: Any = None, keepdim: bool = False, *,
    dtype: torch.dtype | None = None,
) -> Masked | Tensor:  # fmt: skip
    """Likewise."""
    spatial = _spatial(x, dim)
    return _ended_or_over_channels(
        x, spatial, dim, keepdim, lambda features: operation(features, ord, dim, keepdim, dtype=dtype)
    )


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
        f"layer masking reduces over height and width together, or over the channels, got axes {dim} of shape "
        f"{tuple(x.shape)}, whose axes {x.axes} are images, height and width; {OWN_RULE}"
    )


def _ended_or_over_channels(
    x: Masked, spatial: tuple[int, ...], dim: Any, keepdim: bool, compute: Callable[[Tensor], Tensor]
) -> Masked | Tensor:
    if spatial == x.spatial_axes:
        return torch.as_tensor(compute(x.with_hidden_zero()))
    return _over_channels(x, spatial, dim, keepdim, compute(x))


def _over_channels(x: Masked, spatial: tuple[int, ...], dim: Any, keepdim: bool, reduced: Tensor) -> Masked:
    if spatial:
        raise NotImplementedError(_refusal(x, dim))
    return carry(reduced, x.visible, x.axes if keepdim else without_axes(x.axes, _axes(x, dim)))
