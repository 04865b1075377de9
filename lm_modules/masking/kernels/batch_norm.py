"""Batch norm in training with the statistics of the visible positions, which are read once for them."""

from itertools import compress
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from maskrobust.lm_modules.masking.axes import channels_last
from maskrobust.lm_modules.masking.batch_norm import (
    BatchNorm,
    masked_batch_norm,
    rows_of_processes,
    sum_of_processes,
)
from maskrobust.lm_modules.masking.kernels import launching

_FEW = 8
"""Channels whose moments one program joins."""


def kernel_batch_norm(
    norm: BatchNorm, features: Tensor, visible: Tensor, group: dist.ProcessGroup | None = None
) -> Tensor:
    """`masked_batch_norm`, over the visible positions of a group of processes if one is given.

    The result is channels-last. Processes exchange 3 C numbers each in the forward and 2 C in the backward pass.
    """
    weight, bias, shown = norm.weight, norm.bias, visible.contiguous()
    return _KernelBatchNorm.apply(channels_last(features), weight, bias, shown, norm, group)  # type: ignore[no-any-return]


class _KernelBatchNorm(torch.autograd.Function):
    """With respect to channels-last features, weight and bias."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor | None, bias: Tensor | None, visible: Tensor, norm: BatchNorm,
        group: dist.ProcessGroup | None,
    ) -> Tensor:  # fmt: skip
        shown, normalised = visible.view(torch.uint8), torch.empty_like(features)
        moments = _moments_of(features, shown, norm, group)
        launching.launch_tiles(_normalise, features, shown, moments, weight, bias, normalised)
        ctx.norm, ctx.group = norm, group
        ctx.save_for_backward(features, weight, bias, visible, moments)
        return normalised

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, bias, visible, moments = ctx.saved_tensors
        if torch.is_grad_enabled() and ctx.group is None:  # for a graph of the gradient, which torch's operations give
            norm, is_needed = ctx.norm._replace(running_mean=None, running_var=None), ctx.needs_input_grad[:3]
            output, needed = masked_batch_norm(norm, features, visible), compress((features, weight, bias), is_needed)
            found = iter(torch.autograd.grad(output, [*needed], gradients[0], create_graph=True))
            return *(next(found) if each else None for each in is_needed), None, None, None
        gradient, shown = channels_last(gradients[0]), visible.view(torch.uint8)
        partial = moments.new_empty(launching.SPLITS, 2, features.shape[1])
        launching.launch_splits(_sum_gradients, features, gradient, shown, moments, partial)
        own, of_features = partial.sum(dim=0), torch.empty_like(features)
        sums = own if ctx.group is None else sum_of_processes(own, ctx.group)
        launching.launch_tiles(_differentiate, features, gradient, shown, moments, sums, weight, of_features)
        of_bias, of_weight = own.unbind()
        return of_features, None if weight is None else of_weight, None if bias is None else of_bias, None, None, None


def _moments_of(features: Tensor, shown: Tensor, norm: BatchNorm, group: dist.ProcessGroup | None) -> Tensor:
    """(mean, 1 / standard deviation, number of visible positions) of each channel, (3, C), float32 at least.

    Running statistics move within the forward, as in torch's: a checkpoint computes again up to the last saved tensor.
    """
    splits, channels = launching.SPLITS, features.shape[1]
    precision = torch.promote_types(features.dtype, torch.float32)
    partial, moments = (features.new_empty(*size, 3, channels, dtype=precision) for size in ((splits,), ()))
    launching.launch_splits(_sum_moments, features, shown, partial)
    if group is not None:
        partial = _partial_of_processes(partial, group)
    grid, statistics = (launching.parts(channels, _FEW),), (norm.running_mean, norm.running_var, float(norm.momentum))
    launching.launch(_join_moments, grid, partial, moments, *statistics, channels, norm.eps, len(partial), _FEW)
    return moments


def _partial_of_processes(partial: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Number, mean and sum of squared differences of each process, (P, 3, C), where P is a power of two.

    Args:
        partial: (splits, 3, C), those of the splits of this process.
        group: the processes; rows beyond them hold 0.
    """
    numbers, means, squares = partial.unbind(dim=1)
    number = numbers.sum(dim=0)
    mean = (means * numbers).sum(dim=0) / number.clamp(min=1)
    squared = (squares + (means - mean).square() * numbers).sum(dim=0)
    rows = rows_of_processes(torch.stack([number, mean, squared]), group)
    return F.pad(rows, (0, 0, 0, 0, 0, triton.next_power_of_2(len(rows)) - len(rows)))


@triton.jit
def _tile(shown, part, rows, channels, tile_rows: tl.constexpr, tile_channels: tl.constexpr):
    """Places of one part of the rows and of the channels of this program; which are visible, and which exist."""
    row = part.to(tl.int64) * tile_rows + tl.arange(0, tile_rows)
    channel = tl.program_id(1) * tile_channels + tl.arange(0, tile_channels)
    seen = tl.load(shown + row, mask=row < rows, other=0) != 0
    inside = (channel < channels)[None]
    return row[:, None] * channels + channel[None], seen[:, None] & inside, (row < rows)[:, None] & inside


@triton.jit
def _channels(channels, tile_channels: tl.constexpr):
    """The channels of this program, and which exist."""
    channel = tl.program_id(1) * tile_channels + tl.arange(0, tile_channels)
    return channel, channel < channels


@triton.jit
def _sum_moments(features, shown, partial, steps, rows, channels, tile_rows: tl.constexpr, tile_channels: tl.constexpr):
    """Number, mean and sum of squared differences of the visible rows of one split, joined step by step (Chan)."""
    wide = partial.dtype.element_ty
    number, mean, squares = (
        tl.zeros((tile_channels,), wide),
        tl.zeros((tile_channels,), wide),
        tl.zeros((tile_channels,), wide),
    )
    for step in range(steps):
        place, visible, _ = _tile(shown, tl.program_id(0) * steps + step, rows, channels, tile_rows, tile_channels)
        values = tl.load(features + place, mask=visible, other=0.0).to(wide)
        more = tl.sum(visible.to(wide), axis=0)
        its_mean = tl.sum(values, axis=0) / tl.maximum(more, 1)
        centred = tl.where(visible, values - its_mean[None], 0.0)
        total, off = number + more, its_mean - mean
        part = more / tl.maximum(total, 1)
        mean += off * part
        squares += tl.sum(centred * centred, axis=0) + off * off * number * part
        number = total
    channel, inside = _channels(channels, tile_channels)
    place = partial + tl.program_id(0) * 3 * channels + channel
    tl.store(place, number, mask=inside)
    tl.store(place + channels, mean, mask=inside)
    tl.store(place + 2 * channels, squares, mask=inside)


@triton.jit
def _join_moments(
    partial, moments, running_mean, running_var, momentum, channels,
    eps: tl.constexpr, splits: tl.constexpr, tile_channels: tl.constexpr,
):  # fmt: skip
    """Moments of all splits, by the law of total variance, and the running statistics that they move."""
    channel = tl.program_id(0) * tile_channels + tl.arange(0, tile_channels)
    inside = channel < channels
    place = partial + tl.arange(0, splits)[:, None] * 3 * channels + channel[None]
    numbers = tl.load(place, mask=inside[None], other=0.0)
    means = tl.load(place + channels, mask=inside[None], other=0.0)
    squares = tl.load(place + 2 * channels, mask=inside[None], other=0.0)
    number = tl.sum(numbers, axis=0)
    mean = tl.sum(means * numbers, axis=0) / tl.maximum(number, 1)
    off = means - mean[None]
    total = tl.sum(squares + off * off * numbers, axis=0)
    tl.store(moments + channel, mean, mask=inside)
    tl.store(moments + channels + channel, 1 / tl.sqrt(total / tl.maximum(number, 1) + eps), mask=inside)
    tl.store(moments + 2 * channels + channel, number, mask=inside)
    moves = tl.where(number > 1, momentum, 0.0)
    if running_mean is not None:
        old = tl.load(running_mean + channel, mask=inside, other=0.0)
        tl.store(running_mean + channel, old + moves * (mean - old), mask=inside)
    if running_var is not None:
        old = tl.load(running_var + channel, mask=inside, other=0.0)
        tl.store(running_var + channel, old + moves * (total / tl.maximum(number - 1, 1) - old), mask=inside)


@triton.jit
def _normalise(
    features,
    shown,
    moments,
    weight,
    bias,
    normalised,
    rows,
    channels,
    tile_rows: tl.constexpr,
    tile_channels: tl.constexpr,
):
    """(x - mean) / deviation * weight + bias at visible rows, 0 at hidden ones, which are not read."""
    place, visible, exists = _tile(shown, tl.program_id(0), rows, channels, tile_rows, tile_channels)
    channel, inside = _channels(channels, tile_channels)
    mean = tl.load(moments + channel, mask=inside, other=0.0)
    slope = tl.load(moments + channels + channel, mask=inside, other=0.0)
    values = tl.load(features + place, mask=visible, other=0.0).to(mean.dtype) - mean[None]
    if weight is not None:
        slope *= tl.load(weight + channel, mask=inside, other=0.0)
    values *= slope[None]
    if bias is not None:
        values += tl.load(bias + channel, mask=inside, other=0.0)[None]
    tl.store(normalised + place, tl.where(visible, values, 0.0).to(normalised.dtype.element_ty), mask=exists)


@triton.jit
def _sum_gradients(
    features,
    gradient,
    shown,
    moments,
    partial,
    steps,
    rows,
    channels,
    tile_rows: tl.constexpr,
    tile_channels: tl.constexpr,
):
    """Sums over the visible rows of one split: of the gradient, and of the gradient times the normalised features."""
    channel, inside = _channels(channels, tile_channels)
    mean = tl.load(moments + channel, mask=inside, other=0.0)
    scale = tl.load(moments + channels + channel, mask=inside, other=0.0)
    of_bias, of_weight = tl.zeros((tile_channels,), mean.dtype), tl.zeros((tile_channels,), mean.dtype)
    for step in range(steps):
        place, visible, _ = _tile(shown, tl.program_id(0) * steps + step, rows, channels, tile_rows, tile_channels)
        slope = tl.load(gradient + place, mask=visible, other=0.0).to(mean.dtype)
        values = tl.load(features + place, mask=visible, other=0.0).to(mean.dtype)
        of_bias += tl.sum(slope, axis=0)
        of_weight += tl.sum(slope * (values - mean[None]), axis=0)
    place = partial + tl.program_id(0) * 2 * channels + channel
    tl.store(place, of_bias, mask=inside)
    tl.store(place + channels, of_weight * scale, mask=inside)


@triton.jit
def _differentiate(
    features, gradient, shown, moments, sums, weight, of_features, rows, channels,
    tile_rows: tl.constexpr, tile_channels: tl.constexpr,
):  # fmt: skip
    """(gradient - its mean - normalised x mean of gradient x normalised) x slope at visible rows, 0 at hidden ones."""
    place, visible, exists = _tile(shown, tl.program_id(0), rows, channels, tile_rows, tile_channels)
    channel, inside = _channels(channels, tile_channels)
    mean = tl.load(moments + channel, mask=inside, other=0.0)
    scale = tl.load(moments + channels + channel, mask=inside, other=0.0)
    number = tl.maximum(tl.load(moments + 2 * channels + channel, mask=inside, other=1.0), 1)
    of_bias = tl.load(sums + channel, mask=inside, other=0.0) / number
    of_weight = tl.load(sums + channels + channel, mask=inside, other=0.0) / number
    values = (tl.load(features + place, mask=visible, other=0.0).to(mean.dtype) - mean[None]) * scale[None]
    slope = tl.load(gradient + place, mask=visible, other=0.0).to(mean.dtype)
    if weight is not None:
        scale *= tl.load(weight + channel, mask=inside, other=0.0)
    found = (slope - of_bias[None] - values * of_weight[None]) * scale[None]
    tl.store(of_features + place, tl.where(visible, found, 0.0).to(of_features.dtype.element_ty), mask=exists)
