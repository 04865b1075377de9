"""Batch norm whose statistics are those of the visible positions, in one process and under SyncBatchNorm."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from maskrobust.lm_modules.masking.functional import hide, visible_moments
from maskrobust.lm_modules.masking.rows import gather_rows, scatter_rows


def batch_norm_of_rows(module: nn.BatchNorm2d, features: Tensor, rows: Tensor, row_of: Tensor) -> Tensor:
    """`masked_batch_norm` in one process, by the module itself on the visible positions alone.

    Args:
        module: called with the visible positions as a batch of 1x1 images.
        features: (B, C, H, W) float.
        rows: (N,) int64, those of visible positions, at least two; see `rows.row_indices`.
        row_of: (B x H x W,) int64; see `rows.row_of`.

    Returns:
        (B, C, H, W) channels-last; 0 at hidden positions.
    """
    normalised = module(gather_rows(features, rows, row_of)[:, :, None, None])[:, :, 0, 0]
    return scatter_rows(normalised, rows, row_of, features.shape)


def masked_batch_norm(module: nn.BatchNorm2d | nn.SyncBatchNorm, features: Tensor, visible: Tensor) -> Tensor:
    """Normalise with the mean and variance over visible positions, and update the running statistics with them.

    y = (x - mean) / sqrt(variance + eps) * weight + bias with the biased variance; the running variance takes the
    unbiased one, as in `torch.nn.BatchNorm2d`. Where nothing is visible the running statistics stay as they are. Under
    SyncBatchNorm in training mode the moments are those of the visible positions of all processes; in eval mode, where
    there are no running statistics, those of this process alone, for each has its own number of batches.

    Args:
        module: gives weight, bias, eps, momentum and the running statistics.
        features: (B, C, H, W) float.
        visible: (B, 1, H, W) bool.

    Returns:
        (B, C, H, W), dtype of `features`, computed in float32 at least; 0 at hidden positions, which a small variance
        over few visible ones would blow up from layer to layer.
    """
    mean, variance, count = visible_moments(features, visible)
    if isinstance(module, nn.SyncBatchNorm) and module.training and dist.is_initialized():
        mean, variance, count = _moments_of_all_processes(mean, variance, count, module.process_group)
    if module.training and module.track_running_stats:
        _update_running_statistics(module, mean.detach(), variance.detach(), count)
    scale = torch.rsqrt(variance + module.eps)
    shift = -mean * scale
    if module.affine:
        scale, shift = scale * module.weight, shift * module.weight + module.bias
    normalised = torch.addcmul(shift[:, None, None], features.to(scale.dtype), scale[:, None, None])
    return hide(normalised.to(features.dtype), visible)


def _moments_of_all_processes(
    mean: Tensor, variance: Tensor, count: Tensor, group: dist.ProcessGroup | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Pool the moments of all processes with the law of total variance; differentiable across processes."""
    sums = _sum_over_processes(torch.cat([mean * count, count.reshape(1)]), group)
    total = sums[-1]
    divisor = total.clamp(min=1)
    pooled_mean = sums[:-1] / divisor
    spread = (variance + (mean - pooled_mean).square()) * count
    return pooled_mean, _sum_over_processes(spread, group) / divisor, total


def _sum_over_processes(tensor: Tensor, group: dist.ProcessGroup | None) -> Tensor:
    total: Tensor = _SumOverProcesses.apply(tensor, group)  # type: ignore[no-untyped-call]
    return total


class _SumOverProcesses(torch.autograd.Function):
    """Sum of a tensor over processes, in the backward pass too: each process's loss depends on every one's tensor."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        ctx.group = group
        total = tensor.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].clone()
        dist.all_reduce(total, group=ctx.group)
        return total, None


@torch.no_grad()
def _update_running_statistics(
    module: nn.BatchNorm2d | nn.SyncBatchNorm, mean: Tensor, variance: Tensor, count: Tensor
) -> None:
    assert module.running_mean is not None
    assert module.running_var is not None
    assert module.num_batches_tracked is not None
    anything_visible = count > 0
    module.num_batches_tracked.add_(anything_visible)
    momentum = 1.0 / module.num_batches_tracked.clamp(min=1) if module.momentum is None else module.momentum
    weight = anything_visible.to(module.running_mean.dtype) * momentum
    unbiased = variance * count / (count - 1).clamp(min=1)
    module.running_mean.copy_(torch.lerp(module.running_mean, mean.to(module.running_mean.dtype), weight))
    module.running_var.copy_(torch.lerp(module.running_var, unbiased.to(module.running_var.dtype), weight))
