"""Batch norm whose statistics are those of the visible positions, in one process and under SyncBatchNorm."""

from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from maskrobust.lm_modules.masking.functional import hide, visible_moments
from maskrobust.lm_modules.masking.morphology import clear_rows, to_rows
from maskrobust.lm_modules.masking.state import twin


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
    parameters = {
        "weight": convolution.weight * slope[:, None, None, None],
        "bias": torch.addcmul(module.bias, mean, slope, value=-1),
    }
    return twin(convolution, _parameters=parameters)


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
        hidden: rows of the hidden positions; see `morphology.row_indices`.

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
        number = shown.numel() - len(hidden)
        _update_running_statistics(module, mean, variance * (number / max(number - 1, 1)), mean.new_ones(()))
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


class VisibleFraction(NamedTuple):
    """What batch norm needs of the visible positions, once for all layers that share them; see `_NativeBatchNorm`.

    Attributes:
        visible: (B, 1, H, W) bool.
        hidden: its opposite.
        weights: (B, H x W, 1), dtype of the features: 1 / count at visible positions, 0 elsewhere.
        number: () visible positions n, float32 at least, as all that follow; f = max(n, 1) / (B x H x W).
        anything: () 1 where n > 0, else 0.
        unbiasing: () n / max(n - 1, 1).
        inverse: () 1 / f.
        spread: () (1 - f) / f^2.
        root: () square root of f.
        rest: () (1 - 1 / f) / (B x H x W).
    """

    visible: Tensor
    hidden: Tensor
    weights: Tensor
    number: Tensor
    anything: Tensor
    unbiasing: Tensor
    inverse: Tensor
    spread: Tensor
    root: Tensor
    rest: Tensor

    @classmethod
    def of(cls, visible: Tensor, dtype: torch.dtype) -> "VisibleFraction":
        """Of visible positions (B, 1, H, W), for features of one dtype."""
        count = visible.sum().to(torch.promote_types(dtype, torch.float32))
        some = count.clamp(min=1)
        fraction = some / visible.numel()
        inverse = fraction.reciprocal()
        return cls(
            visible,
            ~visible,
            visible.flatten(2).to(dtype).mT / some.to(dtype),
            count,
            (count > 0).to(count.dtype),
            count / (count - 1).clamp(min=1),
            inverse,
            (1 - fraction) * inverse.square(),
            fraction.sqrt(),
            (1 - inverse) / visible.numel(),
        )


def native_batch_norm(module: nn.BatchNorm2d, features: Tensor, fraction: VisibleFraction) -> Tensor:
    """`masked_batch_norm` in one process, by an accelerator's own kernels, without waiting for how much is visible.

    Args:
        module: as there.
        features: (B, C, H, W) float.
        fraction: of the visible positions.

    Returns:
        (B, C, H, W), dtype of `features`; the bias at hidden positions.
    """
    dtype = fraction.number.dtype
    ones = None if module.affine else torch.ones(features.shape[1], dtype=dtype, device=features.device)
    weight, bias = (module.weight.to(dtype), module.bias.to(dtype)) if ones is None else (ones, torch.zeros_like(ones))
    normalised, mean, variance = _NativeBatchNorm.apply(  # type: ignore[no-untyped-call]
        features, weight, bias, fraction, module.eps
    )
    if module.training and module.track_running_stats:
        _update_running_statistics(module, mean, variance * fraction.unbiasing, fraction.anything)
    return normalised  # type: ignore[no-any-return]


class _NativeBatchNorm(torch.autograd.Function):
    """As `_FusedBatchNorm`: hidden positions become about the mean m of the visible ones, and moments of all follow.

    With f the visible fraction and d the mean of all less m, the mean of the visible positions is m + d / f, and their
    variance that of all over f, less d^2 (1 - f) / f^2; d is rounding, which counts in half precision.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, fraction: VisibleFraction, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        kind = features.device.type
        with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
            about = (features.flatten(2) @ fraction.weights).sum(dim=0)
        filled = torch.where(fraction.visible, features, about[:, :, None])
        _, mean_of_all, scale_of_all = torch.native_batch_norm(filled, None, None, None, None, True, 0.0, eps)
        off = mean_of_all - about.flatten()
        mean = torch.addcmul(about.flatten().to(off.dtype), off, fraction.inverse)
        variance = (scale_of_all.pow(-2) - eps) * fraction.inverse
        variance = torch.addcmul(variance, off, off * fraction.spread, value=-1).clamp_(min=0)
        normalised, _, _ = torch.native_batch_norm(filled, weight, bias, mean, variance, False, 0.0, eps)
        ctx.fraction = fraction
        ctx.set_materialize_grads(False)  # of mean and variance
        ctx.save_for_backward(features, weight, mean, (variance + eps).rsqrt_())
        ctx.mark_non_differentiable(mean, variance)
        return normalised, mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, mean, scale = ctx.saved_tensors
        root = ctx.fraction.root
        of_features, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0], features, weight * root, None, None, mean, scale / root, True, 0.0, [True, True, True]
        )
        # The kernel has subtracted the mean gradient of all positions.
        rest = of_bias * scale * weight * ctx.fraction.rest
        of_features = of_features.add_(rest[:, None, None]).masked_fill_(ctx.fraction.hidden, 0.0)
        return of_features, of_weight * root, of_bias, None, None


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
        unbiased = variance.detach() * count / (count - 1).clamp(min=1)
        _update_running_statistics(module, mean.detach(), unbiased, (count > 0).to(mean.dtype))
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
    gathered: Tensor = _Gather.apply(torch.cat([mean, variance, count.reshape(1)]), group)  # type: ignore[no-untyped-call]
    means, variances = gathered[:, :-1].chunk(2, dim=1)
    counts = gathered[:, -1:]
    total = counts.sum()
    weights = counts / total.clamp(min=1)
    pooled_mean = (means * weights).sum(dim=0)
    return pooled_mean, ((variances + (means - pooled_mean).square()) * weights).sum(dim=0), total


class _Gather(torch.autograd.Function):
    """A tensor of each process as rows; backward sums the gradients, for each process's loss depends on every row."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        ctx.group = group
        rows = [torch.empty_like(tensor) for _ in range(dist.get_world_size(group))]
        dist.all_gather(rows, tensor, group=group)
        return torch.stack(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].clone()
        dist.all_reduce(total, group=ctx.group)
        return total[dist.get_rank(ctx.group)], None


@torch.no_grad()
def _update_running_statistics(
    module: nn.BatchNorm2d | nn.SyncBatchNorm, mean: Tensor, unbiased: Tensor, anything: Tensor
) -> None:
    """Move the running statistics towards those of a batch; not at all where `anything` is 0, else 1."""
    assert module.running_mean is not None
    assert module.running_var is not None
    assert module.num_batches_tracked is not None
    dtype = module.running_mean.dtype
    module.num_batches_tracked.add_(anything.to(torch.int64))
    momentum = 1.0 / module.num_batches_tracked.clamp(min=1) if module.momentum is None else module.momentum
    weight = anything.to(dtype) * momentum
    module.running_mean.lerp_(mean.to(dtype), weight)
    module.running_var.lerp_(unbiased.to(dtype), weight)
