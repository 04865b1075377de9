"""Batch norm whose statistics are those of the visible positions, in one process and under SyncBatchNorm."""

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from maskrobust.lm_modules.masking.axes import beside, channels_last
from maskrobust.lm_modules.masking.functional import hide, visible_moments
from maskrobust.lm_modules.masking.morphology import to_rows, zero_rows


class BatchNorm(NamedTuple):
    """The arguments of `torch.nn.functional.batch_norm` in training mode.

    Attributes:
        running_mean: (C,), moved towards that of the batch; None to keep none.
        running_var: likewise.
        weight: (C,); None for 1.
        bias: (C,); None for 0.
        momentum: how far running statistics move, in [0, 1].
        eps: added to the variance.
    """

    running_mean: Tensor | None
    running_var: Tensor | None
    weight: Tensor | None
    bias: Tensor | None
    momentum: float | Tensor
    eps: float


def fused_batch_norm(norm: BatchNorm, features: Tensor, shown: Tensor, hidden: Tensor) -> Tensor:
    """`masked_batch_norm` in one process, by torch's kernels for all positions.

    Args:
        norm: as there.
        features: (B, C, H, W) float.
        shown: rows of the visible positions, of which there are at least two; see `morphology.row_indices`.
        hidden: those of the hidden ones.

    Returns:
        (B, C, H, W) channels-last, dtype of `features`, computed in float32 at least; 0 at hidden positions.
    """
    features_of_kernel = features.to(torch.promote_types(features.dtype, torch.float32))
    weight, bias = _affine(norm, features.shape[1], features_of_kernel)
    normalised = _FusedBatchNorm.apply(features_of_kernel, weight, bias, shown, hidden, norm)  # type: ignore[no-untyped-call]
    return normalised.to(features.dtype)  # type: ignore[no-any-return]


class _FusedBatchNorm(torch.autograd.Function):
    """By the statistics of a copy of the visible rows.

    Where a mean is many standard deviations, sums of the values are imprecise; those of the differences from the mean
    are not. A gradient of 0 at hidden positions makes backward sums over all positions those over the visible ones.

    Running statistics move within the forward, as in torch's: a checkpoint computes again up to the last saved tensor.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, shown: Tensor, hidden: Tensor, norm: BatchNorm
    ) -> Tensor:
        features = channels_last(features)
        rows = to_rows(features)
        seen = rows.index_select(0, shown)
        mean, variance = torch.batch_norm_update_stats(seen, None, None, 0.0)
        # Not where the features lie: a convolution that has padded them needs their rims in its backward pass.
        normalised = torch.empty_like(features)
        written = to_rows(normalised)
        is_large = (mean.square() > _LARGE * variance).any()
        if is_large:
            offset, variance = torch.batch_norm_update_stats(seen.sub_(mean), None, None, 0.0)
            mean = mean + offset
        _update_running_statistics(norm, mean, variance * (len(shown) / (len(shown) - 1)), mean.new_ones(()))
        scale = torch.rsqrt(variance + norm.eps)
        slope = scale * weight
        if is_large:
            torch.addcmul(bias, torch.sub(rows, mean, out=written), slope, out=written)
        else:
            torch.addcmul(bias - mean * slope, rows, slope, out=written)
        zero_rows(written, hidden)
        ctx.save_for_backward(features, weight, hidden, mean, scale)
        return normalised

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, hidden, mean, scale = ctx.saved_tensors
        gradient = channels_last(gradients[0])
        positions = features.numel() // features.shape[1]
        fraction = 1 - len(hidden) / positions
        root = fraction**0.5
        of_features, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, features, weight * root, None, None, mean, scale / root, True, 0.0, [True, True, True]
        )
        of_features = channels_last(of_features)  # as the kernel returns them, but for signals
        rows = to_rows(of_features)
        # The kernel has subtracted the mean gradient of all positions.
        rows.add_(of_bias * scale * weight, alpha=(1 - 1 / fraction) / positions)
        zero_rows(rows, hidden)
        return of_features, of_weight * root, of_bias, None, None, None


def explicit_batch_norm(
    norm: BatchNorm, features: Tensor, visible: Tensor, group: dist.ProcessGroup | None = None
) -> Tensor:
    """`masked_batch_norm` with a backward pass written out, for `torch.compile` and for several processes.

    Args:
        norm: as there.
        features: (B, C, H, W) float.
        visible: (B, 1, H, W) bool.
        group: the processes over whose visible positions the statistics are; None for this process alone. They
            exchange 2 C + 1 numbers each in the forward and 2 C in the backward pass.

    Returns:
        (B, C, H, W), dtype of `features`, computed in float32 at least; 0 at hidden positions.
    """
    like = torch.empty((), dtype=torch.promote_types(features.dtype, torch.float32), device=features.device)
    weight, bias = _affine(norm, features.shape[1], like)
    return _ExplicitBatchNorm.apply(features, weight, bias, visible, norm, group)  # type: ignore[no-any-return,no-untyped-call]


class _ExplicitBatchNorm(torch.autograd.Function):
    """Of maps only the features are kept for the backward pass, from which a compiler computes the others again."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, visible: Tensor, norm: BatchNorm,
        group: dist.ProcessGroup | None,
    ) -> Tensor:  # fmt: skip
        moments = visible_moments(features, visible)
        if group is not None:
            moments = _moments_of_all_processes(*moments, group)
        mean, _, count = moments
        normalised, scale = _normalised(norm, features, visible, moments, weight, bias)
        ctx.group = group
        ctx.save_for_backward(features, weight, visible, mean, scale, count.clamp(min=1))
        return normalised

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, visible, mean, scale, count = ctx.saved_tensors
        axes, others = features.ndim - 2, (0, *range(2, features.ndim))
        gradient = hide(gradients[0].to(scale.dtype), visible)
        centred = hide(features.to(scale.dtype) - beside(mean, axes), visible)
        own = torch.stack([gradient.sum(dim=others), (gradient * centred).sum(dim=others) * scale])
        of_bias, of_weight = own if ctx.group is None else sum_of_processes(own, ctx.group)
        along = centred * beside(scale * of_weight / count, axes)
        of_features = hide(beside(scale * weight, axes) * (gradient - beside(of_bias / count, axes) - along), visible)
        return of_features.to(features.dtype), own[1], own[0], None, None, None


def sum_of_processes(own: Tensor, group: dist.ProcessGroup) -> Tensor:
    """The sum of a tensor over processes, for a backward pass, of which it has no gradient.

    Raises:
        NotImplementedError: a graph of the gradient is asked for (`create_graph=True`).
    """
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        raise NotImplementedError(
            "synchronised batch norm over visible positions has one derivative, got create_graph=True; set "
            "trainer.sync_batchnorm to false."
        )
    total = own.clone()
    dist.all_reduce(total, group=group)
    return total


_LARGE = 16.0
"""Squared mean over variance from which on the values are centred before they are summed."""


def masked_batch_norm(norm: BatchNorm, features: Tensor, visible: Tensor) -> Tensor:
    """Normalise with the mean and variance over visible positions, and update the running statistics with them.

    y = (x - mean) / sqrt(variance + eps) * weight + bias with the biased variance; the running variance takes the
    unbiased one, as in `torch.nn.BatchNorm2d`. The running statistics stay as they are where at most one position is
    visible, of which there is no such variance and torch's batch norm raises an error.

    Args:
        norm: weight, bias, eps, momentum and the running statistics.
        features: (B, C, H, W) float.
        visible: (B, 1, H, W) bool.

    Returns:
        (B, C, H, W), dtype of `features`, computed in float32 at least; 0 at hidden positions, which a small variance
        over few visible ones would blow up from layer to layer.
    """
    moments = visible_moments(features, visible)
    return _normalised(norm, features, visible, moments, *_affine(norm, features.shape[1], moments[0]))[0]


def _normalised(
    norm: BatchNorm, features: Tensor, visible: Tensor, moments: tuple[Tensor, Tensor, Tensor], weight: Tensor,
    bias: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """What `masked_batch_norm` returns, by mean, variance and count of visible positions; and 1 / deviation, (C,)."""
    mean, variance, count = moments
    unbiased = variance.detach() * count / (count - 1).clamp(min=1)
    _update_running_statistics(norm, mean.detach(), unbiased, (count > 1).to(mean.dtype))
    scale = torch.rsqrt(variance + norm.eps)
    shift, slope = (beside(each, features.ndim - 2) for each in (bias - mean * scale * weight, scale * weight))
    normalised = torch.addcmul(shift, features.to(slope.dtype), slope)
    return hide(normalised.to(features.dtype), visible), scale


def _moments_of_all_processes(
    mean: Tensor, variance: Tensor, count: Tensor, group: dist.ProcessGroup
) -> tuple[Tensor, Tensor, Tensor]:
    """Pool the moments of all processes with the law of total variance."""
    gathered = rows_of_processes(torch.cat([mean, variance, count.reshape(1)]), group)
    means, variances = gathered[:, :-1].chunk(2, dim=1)
    counts = gathered[:, -1:]
    total = counts.sum()
    weights = counts / total.clamp(min=1)
    pooled_mean = (means * weights).sum(dim=0)
    return pooled_mean, ((variances + (means - pooled_mean).square()) * weights).sum(dim=0), total


def rows_of_processes(own: Tensor, group: dist.ProcessGroup) -> Tensor:
    """A tensor of each process, (processes, *its shape), without a gradient."""
    gathered = own.new_empty(dist.get_world_size(group), own.numel())
    dist.all_gather_into_tensor(gathered.view(-1), own.contiguous().view(-1), group=group)
    return gathered.view(-1, *own.shape)


def _affine(norm: BatchNorm, channels: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias in dtype and on device of another tensor."""
    ones = torch.ones(channels, dtype=like.dtype, device=like.device)
    weight, bias = norm.weight, norm.bias
    return (
        ones if weight is None else weight.to(like.dtype),
        torch.zeros_like(ones) if bias is None else bias.to(like.dtype),
    )


@torch.no_grad()
def _update_running_statistics(norm: BatchNorm, mean: Tensor, unbiased: Tensor, has_variance: Tensor) -> None:
    """Move the running statistics towards those of a batch; not at all where `has_variance` is 0, else 1."""
    if norm.running_mean is None or norm.running_var is None:
        return
    weight = (has_variance * norm.momentum).to(norm.running_mean.dtype)
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), weight)
    norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), weight)
