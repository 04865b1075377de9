"""Pools with windows, global pools, and reductions over axes."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskrobust.lm_modules.masking.masked import Masked, VisibleMap, Window
from maskrobust.lm_modules.masking.row_features import Rows
from maskrobust.lm_modules.masking.rules.convolution import pair, slide, symmetric
from maskrobust.lm_modules.masking.rules.merging import Stack, sum_stack
from maskrobust.lm_modules.masking.rules.table import Operation, RowKernel, masking_rule


def _check_no_indices(operation: Any, *_args: Any) -> None:
    if getattr(operation, "return_indices", False):
        raise NotImplementedError(
            f"layer masking needs {type(operation).__name__} without return_indices; give the module around this "
            "operation a rule of its own with masking_rule."
        )


_OF_MODULES = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "divisor_override")
_OF_MAX = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
_OF_AVERAGE = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")


@masking_rule(nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d, check=_check_no_indices)
def pool(operation: nn.MaxPool2d | nn.AvgPool2d | nn.LPPool2d, x: Masked) -> Masked:
    """Hidden positions count as 0; a window is visible when any position in it is."""
    return _slide_pool(x, operation, {name: getattr(operation, name, None) for name in _OF_MODULES})


@masking_rule(F.max_pool2d, F.avg_pool2d)
def functional_pool(operation: Operation, x: Masked, *args: Any, **kwargs: Any) -> Masked:
    """The same for a functional call."""
    names = _OF_MAX if operation is F.max_pool2d else _OF_AVERAGE
    settings = {**dict(zip(names, args, strict=False)), **kwargs}
    return _slide_pool(x, lambda features: operation(features, *args, **kwargs), settings)


def _slide_pool(x: Masked, compute: Callable[[Tensor], Tensor], settings: Mapping[str, Any]) -> Masked:
    divisor = settings.get("divisor_override")
    if divisor is not None and torch.compiler.is_exporting():
        raise NotImplementedError(
            f"layer masking exports average pools without a divisor of their own, which torch.onnx.export drops, got "
            f"divisor_override={divisor}; leave it out, and multiply what the pool returns."
        )
    size, stride = pair(settings["kernel_size"]), settings.get("stride")
    padding, dilation = symmetric(settings.get("padding") or 0), pair(settings.get("dilation") or 1)
    window = Window(size, pair(stride) if stride else size, padding, dilation, bool(settings.get("ceil_mode")))
    return slide(x, window, compute, hidden="zero")


def _mean_of_rows(_operation: nn.AdaptiveAvgPool2d, _outputs: VisibleMap, x: Rows) -> Tensor:
    """Mean over each image's rows, 0 where it has none."""
    counts = x.held.positions.sum(dim=(1, 2, 3))
    precision = torch.promote_types(x.values.dtype, torch.float32)
    sums = torch.segment_reduce(x.values.to(precision), "sum", lengths=counts, axis=0, unsafe=True, initial=0.0)
    return (sums / counts.clamp(min=1)[:, None]).to(x.values.dtype)[:, :, None, None]


def _averages_all(operation: Any) -> bool:
    return isinstance(operation, nn.AdaptiveAvgPool2d) and _is_one(operation.output_size)


@masking_rule(
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    ends_masking=lambda operation, *_args: _is_one(operation.output_size),
    check=_check_no_indices,
    rows=RowKernel(_mean_of_rows, _averages_all),
)
def adaptive_pool(operation: nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d, x: Masked) -> Masked | Tensor:
    """By `functional_adaptive_pool`."""
    average = isinstance(operation, nn.AdaptiveAvgPool2d)
    return functional_adaptive_pool(
        F.adaptive_avg_pool2d if average else F.adaptive_max_pool2d, x, operation.output_size
    )


@masking_rule(
    F.adaptive_avg_pool2d,
    F.adaptive_max_pool2d,
    ends_masking=lambda _operation, _x, output_size, *_args, **_: _is_one(output_size),
)
def functional_adaptive_pool(operation: Operation, x: Masked, output_size: Any, **_: bool) -> Masked | Tensor:
    """Each bin is the mean over its visible positions, or the maximum with hidden ones counting as 0.

    Masking ends where there is one bin; otherwise a bin is visible when any of its positions is.
    """
    averages = operation is F.adaptive_avg_pool2d
    if averages:
        if _is_one(output_size):
            # As channels-last as a pool of channels-last features is, or a gate would make contiguous features of them.
            return x.mean_over_visible().to(x.features.dtype)[:, None, None].permute(0, 3, 1, 2)
        return adaptive_average(x, output_size)
    pooled = torch.as_tensor(operation(x.with_hidden_zero(), output_size))
    return pooled if _is_one(output_size) else Masked(pooled, _bins(x, output_size))


def adaptive_average(x: Masked, output_size: Any) -> Masked:
    """The mean over the visible positions of each bin, 0 where it has none; a bin is visible when it has one."""
    pooled = F.adaptive_avg_pool2d(x.with_hidden_zero(), output_size)
    visible = _bins(x, output_size)
    if not x.visible.everything:
        ones = x.visible.positions.to(torch.promote_types(pooled.dtype, torch.float32))
        fraction = F.adaptive_avg_pool2d(ones, output_size)
        pooled = pooled / torch.where(visible.positions, fraction, 1.0).to(pooled.dtype)
    return Masked(pooled, visible)


def _bins(x: Masked, output_size: Any) -> VisibleMap:
    spread = partial(F.adaptive_avg_pool2d, output_size=output_size)
    return x.visible.derive(("adaptive", str(output_size)), spread)


def _is_one(output_size: Any) -> bool:
    return output_size == 1 or (not isinstance(output_size, int) and tuple(output_size) == (1, 1))


def _reduces_positions(operation: Any, _x: Any, *args: Any, **kwargs: Any) -> bool:
    """Whether a reduction goes over height and width; refused where that cannot be told."""
    axes = _axes(operation, args, kwargs)
    if axes is not None and len(axes) in (1, 2):
        return len(axes) == 2
    raise NotImplementedError(
        f"layer masking reduces over height and width, or over the channels, got axes {axes}; give the module around "
        "this operation a rule of its own with masking_rule."
    )


@masking_rule(
    "mean", "sum", "amax", "norm", torch.mean, torch.sum, torch.amax, torch.norm, ends_masking=_reduces_positions
)
def reduction(operation: Any, x: Masked | Stack, *args: Any, **kwargs: Any) -> Masked | Tensor:
    """Over height and width: a mean over visible positions, anything else with 0 at hidden ones; masking ends.

    Over one other axis, such as the channels: position by position.

    Raises:
        NotImplementedError: over one of height and width, or over two axes that are not these.
    """
    if isinstance(x, Stack):
        return sum_stack(x)
    axes = {axis % x.features.ndim for axis in _axes(operation, args, kwargs) or ()}
    spatial = set(x.spatial_axes)
    if len(axes) == 1 and not axes & {0, *spatial}:
        reduced = operation(x.features, *args, **kwargs)
        return Masked(reduced, x.visible, x.channels_last)
    if axes != spatial:
        raise NotImplementedError(
            f"layer masking reduces over height and width together, or over the channels, got axes {sorted(axes)} of "
            f"shape {tuple(x.features.shape)}; give the module around this operation a rule of its own."
        )
    if operation.__name__ != "mean":
        return torch.as_tensor(operation(x.with_hidden_zero(), *args, **kwargs))
    keeps = _bound(operation, args, kwargs).get("keepdim", False)
    sizes = [
        1 if axis in spatial else size for axis, size in enumerate(x.features.shape) if keeps or axis not in spatial
    ]
    return x.mean_over_visible().reshape(sizes).to(kwargs.get("dtype") or x.features.dtype)


def _bound(operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a reduction after the features by name: a norm's order stands ahead of its axes."""
    is_norm = getattr(operation, "__name__", operation) == "norm"
    return {**dict(zip(("p", "dim", "keepdim") if is_norm else ("dim", "keepdim"), args, strict=False)), **kwargs}


def _axes(operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[int, ...] | None:
    bound = _bound(operation, args, kwargs)
    given = bound.get("dim", bound.get("axis"))
    return (given,) if isinstance(given, int) else (None if given is None else tuple(given))
