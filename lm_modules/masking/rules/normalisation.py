"""Normalisation: statistics are those of the visible positions."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskrobust.lm_modules.masking import functional
from maskrobust.lm_modules.masking.batch_norm import fused_batch_norm, masked_batch_norm, native_batch_norm
from maskrobust.lm_modules.masking.masked import Masked, VisibleMap
from maskrobust.lm_modules.masking.row_features import Rows
from maskrobust.lm_modules.masking.rules.pointwise import elementwise, over_last_axis
from maskrobust.lm_modules.masking.rules.table import Operation, RowKernel, masking_rule

BatchNorm = nn.BatchNorm2d | nn.SyncBatchNorm


def _normalise_rows(operation: nn.BatchNorm2d, _outputs: VisibleMap, x: Rows) -> Tensor:
    mean, variance, weight, bias = operation.running_mean, operation.running_var, operation.weight, operation.bias
    return F.batch_norm(x.values, mean, variance, weight, bias, training=False, eps=operation.eps)


def _has_running_statistics(operation: BatchNorm) -> bool:
    return type(operation) is nn.BatchNorm2d and operation.running_mean is not None


@masking_rule(
    nn.BatchNorm2d,
    nn.SyncBatchNorm,
    rows=RowKernel(_normalise_rows, _has_running_statistics),
    is_local=True,
    folds=True,
)
def batch_norm(operation: BatchNorm, x: Masked, then: Callable[[Tensor], Tensor] | None = None) -> Masked:
    """Statistics over visible positions only where the batch's own are used; otherwise position by position.

    Args:
        operation: the module.
        x: masked features.
        then: what the module does to the normalised features, where it does more than to normalise.
    """
    if x.is_normalised:
        return x.with_features(x.features if then is None else then(x.features))
    uses_batch_statistics = operation.training or operation.running_mean is None
    if not uses_batch_statistics or (isinstance(operation, nn.BatchNorm2d) and x.visible.everything):
        return x.with_features(operation(x.features))
    visible = x.visible
    if isinstance(operation, nn.BatchNorm2d) and visible.may_be_read and visible.number > 1:
        normalised = fused_batch_norm(operation, x.features, visible.as_numbers, visible.hidden_row_indices)
    elif type(operation) is nn.BatchNorm2d and not visible.may_be_read and not torch.compiler.is_compiling():
        normalised = native_batch_norm(operation, x.features, visible.fraction(x.features.dtype))
    else:
        normalised = masked_batch_norm(operation, x.features, visible.positions)
    return x.with_features(normalised if then is None else then(normalised))


def _check_given_statistics(
    _operation: Operation, _x: Any, _mean: Any, _variance: Any, _weight: Any = None, _bias: Any = None, *args: Any,
    training: bool = False, **_kwargs: Any,
) -> None:  # fmt: skip
    if training or (args and args[0]):
        raise NotImplementedError(
            "layer masking needs batch norm as a module in training mode, got F.batch_norm with training=True; use "
            "nn.BatchNorm2d, or register another rule for F.batch_norm with masking_rule."
        )


masking_rule(F.batch_norm, check=_check_given_statistics)(elementwise)


@masking_rule(nn.GroupNorm)
def group_norm(operation: nn.GroupNorm, x: Masked) -> Masked:
    """Mean and variance of each sample and group over its visible positions."""
    return functional_group_norm(F.group_norm, x, operation.num_groups, operation.weight, operation.bias, operation.eps)


@masking_rule(F.group_norm)
def functional_group_norm(
    operation: Operation,
    x: Masked,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Masked:
    """The same for a functional call."""
    if x.visible.everything:
        return x.with_features(operation(x.features, num_groups, weight, bias, eps))
    return x.with_features(functional.masked_group_norm(x.features, x.visible.positions, num_groups, weight, bias, eps))


def _check_no_running_statistics(operation: nn.InstanceNorm2d, *_args: Any) -> None:
    if operation.track_running_stats:
        raise NotImplementedError(
            "layer masking needs instance norm without running statistics, got track_running_stats=True; register "
            "another rule for nn.InstanceNorm2d with masking_rule."
        )


@masking_rule(nn.InstanceNorm2d, check=_check_no_running_statistics)
def instance_norm(operation: nn.InstanceNorm2d, x: Masked) -> Masked:
    """Group norm with one channel in each group."""
    return functional_group_norm(F.group_norm, x, x.features.shape[1], operation.weight, operation.bias, operation.eps)


def _check_one_axis(normalized_shape: Sequence[int]) -> None:
    if len(normalized_shape) != 1:
        raise NotImplementedError(
            f"layer masking needs layer norm over the channels alone, got normalized_shape {tuple(normalized_shape)}; "
            "use group norm with one group, whose statistics can leave hidden positions out."
        )


masking_rule(
    nn.LayerNorm,
    check=lambda operation, *_args: _check_one_axis(operation.normalized_shape),
    is_local=True,
)(over_last_axis)
masking_rule(
    F.layer_norm,
    F.rms_norm,
    check=lambda _operation, _x, normalized_shape, *_args, **_: _check_one_axis(normalized_shape),
    is_local=True,
)(over_last_axis)
