"""Batch norm whose statistics are those of the visible positions, in one process and under SyncBatchNorm."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from maskrobust.lm_modules.masking.functional import hide, visible_moments
from maskrobust.lm_modules.masking.rows import clear_rows, to_rows


class FoldedBatchNorm:
    """A convolution and the batch norm after it as one convolution: each pass over the features takes long on a CPU.

    With slope = weight of the norm / sqrt(running variance + eps), its weight is weight * slope and its bias
    (bias - running mean) * slope + bias of the norm. It is kept until one of the tensors is another one or has been
    changed in place, as torch counts. Torch does not count what is written through `.data`: of the convolution's weight
    that is noticed by its sum, of the other tensors not.
    """

    def __init__(self) -> None:
        self._kept: tuple[object, list[Tensor], nn.Conv2d] | None = None

    def __call__(self, convolution: nn.Conv2d, module: nn.BatchNorm2d, dtype: torch.dtype) -> nn.Conv2d | None:
        """The folded convolution, without gradients and autocast.

        Args:
            convolution: linear in its weight and bias.
            module: the norm, in eval mode.
            dtype: of the features.

        Returns:
            A module of the convolution's class; None where one of the two is called otherwise than its class says (such
            as with a parametrised weight), where the norm has no running statistics or no weight, in less than
            float32, and for tensors made in inference mode, whose changes nobody counts.
        """
        if not (_is_as_its_class(convolution) and _is_as_its_class(module)):
            return None
        weight, mean = convolution.weight, module.running_mean
        if mean is None or not weight.dtype == mean.dtype == dtype or weight.element_size() < 4:
            return None
        owned = (convolution._parameters, module._parameters, module._buffers)
        tensors = [tensor for group in owned for tensor in group.values() if tensor is not None]
        if any(tensor.is_inference() for tensor in tensors):
            return None
        key = module.eps, weight.sum().item(), [(tensor.data_ptr(), tensor._version) for tensor in tensors]
        kept = self._kept
        if kept is None or kept[0] != key:
            # Their memory is held, so that no other tensor can come to lie there.
            self._kept = kept = key, [tensor.detach() for tensor in tensors], _folded(convolution, module)
        return kept[2]

    def forget(self) -> None:
        """Fold anew in the next call."""
        self._kept = None


def _folded(convolution: nn.Conv2d, module: nn.BatchNorm2d) -> nn.Conv2d:
    mean, variance = module.running_mean, module.running_var
    assert mean is not None
    assert variance is not None
    slope = (variance + module.eps).rsqrt_().mul_(module.weight)
    if convolution.bias is not None:
        mean = mean - convolution.bias
    folded = type(convolution).__new__(type(convolution))
    parameters = {
        "weight": convolution.weight * slope[:, None, None, None],
        "bias": torch.addcmul(module.bias, mean, slope, value=-1),
    }
    folded.__dict__.update(vars(convolution), _parameters=parameters)
    return folded


def _is_as_its_class(module: nn.Module) -> bool:
    """Whether a call is its class's own computation from the parameter `weight`."""
    own = vars(module)
    is_called_plainly = "forward" not in own and "_conv_forward" not in own and module._compiled_call_impl is None
    return is_called_plainly and module._parameters.get("weight") is not None


def fused_batch_norm(module: nn.BatchNorm2d, features: Tensor, shown: Tensor, hidden: Tensor) -> Tensor:
    """`masked_batch_norm` in one process, by torch's kernels for all positions.

    Args:
        module: as there.
        features: (B, C, H, W) float.
        shown: (B, 1, H x W) float, 1 at visible positions, of which there are at least two, and 0 elsewhere.
        hidden: rows of the hidden positions; see `rows.row_indices`.

    Returns:
        (B, C, H, W) channels-last, dtype of `features`, computed in float32 at least; the bias at hidden positions.
    """
    features_of_kernel = features.to(torch.promote_types(features.dtype, torch.float32))
    ones = features_of_kernel.new_ones(features.shape[1])
    weight, bias = (module.weight, module.bias) if module.affine else (ones, torch.zeros_like(ones))
    weight, bias = weight.to(ones.dtype), bias.to(ones.dtype)
    normalised, mean, variance = _FusedBatchNorm.apply(  # type: ignore[no-untyped-call]
        features_of_kernel, weight, bias, shown.to(features_of_kernel.dtype).reshape(-1, 1), hidden, module.eps
    )
    if module.training and module.track_running_stats:
        _update_running_statistics(module, mean, variance, mean.new_tensor(shown.numel() - len(hidden)))
    return normalised.to(features.dtype)  # type: ignore[no-any-return]


class _FusedBatchNorm(torch.autograd.Function):
    """Hidden positions become the mean of the visible ones: then the variance of all is n / N of theirs.

    Where a mean is many standard deviations, sums of the values are imprecise; those of the differences from the mean
    are not. A gradient of 0 at hidden positions makes backward sums over all positions those over the visible ones.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, shown: Tensor, hidden: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        features = features.contiguous(memory_format=torch.channels_last)
        rows, fraction = to_rows(features), 1 - len(hidden) / len(shown)
        with torch.autocast("cpu", enabled=False):
            mean = offset = (shown.T @ rows)[0] / (fraction * len(shown))
        normalised = torch.empty_like(features)
        filled = torch.lerp(mean, rows, shown, out=to_rows(normalised))
        _, variance = torch.batch_norm_update_stats(normalised, None, None, 0.0)
        if (mean.square() > _LARGE * variance).any():
            filled -= mean
            mean_of_all, variance = torch.batch_norm_update_stats(normalised, None, None, 0.0)
            offset = mean_of_all / fraction
            mean = mean + offset
        variance = variance / fraction
        scale = torch.rsqrt(variance + eps)
        slope = scale * weight
        torch.addcmul(bias - offset * slope, filled, slope, out=filled)
        ctx.save_for_backward(features, weight, hidden, mean, scale)
        ctx.mark_non_differentiable(mean, variance)
        return normalised, mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, hidden, mean, scale = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        positions = features.numel() // features.shape[1]
        fraction = 1 - len(hidden) / positions
        root = fraction**0.5
        of_features, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, features, weight * root, None, None, mean, scale / root, True, 0.0, [True, True, True]
        )
        rows = to_rows(of_features)
        # The kernel has subtracted the mean gradient of all positions.
        rows.add_(of_bias * scale * weight, alpha=(1 - 1 / fraction) / positions)
        clear_rows(rows, hidden)
        return of_features, of_weight * root, of_bias, None, None, None


_LARGE = 16.0
"""Squared mean over variance from which on the values are centred before they are summed."""


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
