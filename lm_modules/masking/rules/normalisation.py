"""Rules for normalisation: statistics are those of the known positions, visible ones and the frame of a map."""

from functools import partial
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from maskrobust.lm_modules.masking import functional
from maskrobust.lm_modules.masking.axes import channels_first, rows_first
from maskrobust.lm_modules.masking.batch_norm import (
    BatchNorm,
    explicit_batch_norm,
    fused_batch_norm,
    masked_batch_norm,
)
from maskrobust.lm_modules.masking.masked import Masked, arrange, carry, check_images_first
from maskrobust.lm_modules.masking.morphology import to_rows
from maskrobust.lm_modules.masking.table import Operation, masking_rule
from maskrobust.lm_modules.masking.torch_private import is_traced
from maskrobust.lm_modules.masking.visible_map import VisibleMap


@masking_rule(F.batch_norm, any_sizes=True, is_of_one=True)
def batch_norm(
    operation: Operation, x: Masked, running_mean: Tensor | None, running_var: Tensor | None,
    weight: Tensor | None = None, bias: Tensor | None = None, training: bool = False, momentum: float = 0.1,
    eps: float = 1e-5,
) -> Masked:  # fmt: skip
    """Statistics over visible positions only where the batch's own are used; otherwise position by position.

    Raises:
        NotImplementedError: the images have several sizes, and there are no running statistics: no mode answers an
            image as if it were alone.
    """
    if not x.is_map and x.ndim < 4:
        return _of_tokens(batch_norm, operation, x, running_mean, running_var, weight, bias, training, momentum, eps)
    check_images_first(x)
    run = x.run
    has_sizes = run is not None and (run.together is not None or run.step is not None)  # also after a pool to one size
    if has_sizes and running_mean is None:
        raise NotImplementedError(
            "layer masking needs batch norm with running statistics for images of several sizes, got none, with which "
            "the answer for an image depends on the others; give the images of each size in a batch of their own."
        )
    if not training:
        return x.with_fresh(operation(x, running_mean, running_var, weight, bias, training, momentum, eps))
    return _by_own_statistics(BatchNorm(running_mean, running_var, weight, bias, momentum, eps), x)


@masking_rule(nn.SyncBatchNorm, any_sizes=True, is_of_one=True)
def sync_batch_norm(operation: Any, x: Masked) -> Masked:
    """In training mode with the statistics of the visible positions of all processes.

    A rule of the module: it exchanges statistics in an autograd function of its own.
    """
    mean, variance, momentum = operation.running_mean, operation.running_var, operation.momentum
    affine = operation.weight, operation.bias
    if not operation.training:
        return batch_norm(F.batch_norm, x, mean, variance, *affine, mean is None, 0.0, operation.eps)
    check_images_first(x)
    if operation.track_running_stats:
        operation.num_batches_tracked.add_(1)
        momentum = 1.0 / operation.num_batches_tracked if momentum is None else momentum
    if not dist.is_initialized():
        return batch_norm(F.batch_norm, x, mean, variance, *affine, True, momentum, operation.eps)
    norm = BatchNorm(mean, variance, *affine, momentum, operation.eps)
    return _by_own_statistics(norm, x, operation.process_group or dist.group.WORLD)


@masking_rule(F.group_norm, any_sizes=True, is_of_one=True)
def group_norm(
    operation: Operation, x: Masked, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Masked:  # fmt: skip
    """Mean and variance of each sample and group over its visible positions."""
    if not x.is_map and x.ndim < 4:
        return _of_tokens(group_norm, operation, x, num_groups, weight, bias, eps)
    check_images_first(x)
    if x.visible.everything:
        return x.with_fresh(operation(x, num_groups, weight, bias, eps))
    return x.with_fresh(functional.masked_group_norm(x, x.visible.known, num_groups, weight, bias, eps))


@masking_rule(F.instance_norm, any_sizes=True, is_of_one=True)
def instance_norm(
    operation: Operation, x: Masked, running_mean: Tensor | None = None, running_var: Tensor | None = None,
    weight: Tensor | None = None, bias: Tensor | None = None, use_input_stats: bool = True, momentum: float = 0.1,
    eps: float = 1e-5,
) -> Masked:  # fmt: skip
    """Group norm with one channel in each group; position by position where it takes its running statistics.

    Raises:
        NotImplementedError: running statistics are updated.
    """
    check_images_first(x)
    if not use_input_stats:
        arguments = running_mean, running_var, weight, bias, use_input_stats, momentum, eps
        return x.with_fresh(operation(x, *arguments))
    if running_mean is not None:
        raise NotImplementedError(
            "layer masking needs instance norm without running statistics, got track_running_stats=True; register "
            "another rule for torch.nn.functional.instance_norm with masking_rule."
        )
    return group_norm(F.group_norm, x, x.shape[1], weight, bias, eps)


def _by_own_statistics(norm: BatchNorm, x: Masked, group: dist.ProcessGroup | None = None) -> Masked:
    """By the statistics of the known positions, of all images and of a group of processes."""
    if x.run is not None and x.run.step is not None:
        met: Masked = x.run.step.meet(x, partial(_of_each_size, norm, group))
        return met
    visible = x.visible
    if group is None and visible.everything:
        return x.with_fresh(F.batch_norm(x, *norm[:4], True, norm.momentum, norm.eps))  # type: ignore[arg-type]
    if group is None and visible.can_inspect and visible.number > 1:
        return x.with_fresh(fused_batch_norm(norm, x.features, visible.row_indices, visible.hidden_row_indices))
    if visible.uses_kernels:
        from maskrobust.lm_modules.masking.kernels.batch_norm import kernel_batch_norm

        return x.with_fresh(kernel_batch_norm(norm, x.features, visible.known, group))
    if group is not None or is_traced():
        return x.with_fresh(explicit_batch_norm(norm, x.features, visible.known, group))
    return x.with_fresh(masked_batch_norm(norm, x.features, visible.known))


def _of_each_size(norm: BatchNorm, group: dist.ProcessGroup | None, each_of: list[Masked]) -> list[Masked]:
    """The same of the images of each size, whose positions lie side by side for it, as those of one signal."""
    rows = [to_rows(x.features) for x in each_of]
    known = torch.cat([x.visible.known.flatten() for x in each_of])[None, None]
    signal = carry(channels_first(torch.cat(rows)[None]), VisibleMap(known, each_of[0].options))
    parts = to_rows(_by_own_statistics(norm, signal, group).features).split([*map(len, rows)])
    shapes = [rows_first(x.features).shape for x in each_of]
    return [
        x.with_fresh(channels_first(part.clone().view(shape)))
        for x, part, shape in zip(each_of, parts, shapes, strict=True)
    ]


def _of_tokens(rule: Any, operation: Operation, x: Masked, *args: Any) -> Masked:
    """A norm of (B, C, N) or (N, C), as of a map that is one position wide."""
    shape = (*x.shape, *[1] * (4 - x.ndim))
    of_map = arrange(x.features.reshape(shape), x.arrangement.viewed(shape))
    return x.with_fresh(rule(operation, of_map, *args).features.reshape(x.shape))
