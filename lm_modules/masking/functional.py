"""Layer masking as pure tensor functions: padding, propagation, pooling and batch norm on visible positions.

Source: Balasubramanian and Feizi, "Towards Improved Input Masking for Convolutional Neural Networks", ICCV 2023,
section 3. `visible` is bool, (B, 1, H, W), True where a position may be seen; no function reads the features at hidden
positions unless it says so.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from maskrobust.lm_modules.masking.axes import (
    AVERAGE_POOLS,
    CONVOLUTIONS,
    MAX_POOLS,
    Padding,
    Sizes,
    before,
    beside,
    channels_first,
    cropped,
    rows_first,
)
from maskrobust.lm_modules.masking.torch_private import is_traced, is_transformed


def hide(features: Tensor, visible: Tensor) -> Tensor:
    """0 at hidden positions, whatever they hold (NaN too) and with a gradient of exactly 0; unchanged elsewhere.

    Args:
        features: (B, C, H, W) float.
        visible: (B, 1, H, W) bool.

    Returns:
        (B, C, H, W), dtype of `features`.
    """
    # By `masked_fill` with a mask of one channel, channels-last features would become contiguous.
    return torch.where(visible, features, _ZERO if is_traced() else 0.0)


_ZERO = torch.zeros(())
"""0 as an input of compiled code. Of what is computed with one constant in several layers, autograd's partitioner would
keep every result for the backward pass."""


def hide_finite(features: Tensor, visible: Tensor) -> Tensor:
    """`hide` where no value is NaN or infinite, as those that a network computes; in an exported graph a product.

    A choice by a mask of one channel takes ONNX Runtime out of the layout in which it convolves fast.
    """
    if not torch.compiler.is_exporting():
        return hide(features, visible)
    return features * _spread(visible.to(features.dtype), features.shape[1])


def _spread(numbers: Tensor, channels: int) -> Tensor:
    """A map (B, 1, H, W) repeated for each channel, by a convolution, which ONNX Runtime computes in its own layout.

    As it is for what has no such layout: numbers of channels that 8 does not divide, as an image has.
    """
    if channels % 8:
        return numbers
    count = numbers.ndim - 2
    return torch.as_tensor(CONVOLUTIONS[count](numbers, numbers.new_ones(channels, 1, *[1] * count)))


def neighbour_rings(visible: Tensor, rings: int, inside: Tensor | None = None) -> list[tuple[Tensor, Tensor]]:
    """The plan of neighbour padding: which positions each ring fills, and from how many neighbours.

    Ring 1 holds the hidden positions with a visible position among their 3x3 neighbours; ring r + 1 those with a
    neighbour that is visible or in a ring up to r, and are neither themselves.

    Args:
        visible: (B, 1, H, W) bool.
        rings: number of rings, at least 0.
        inside: (B, 1, H, W) bool, the positions of each image, where it is smaller than the map; no other is filled.

    Returns:
        For each ring, its positions (B, 1, H, W) bool, and how many known neighbours each position has, (B, 1, H, W)
        float32, at least 1.
    """
    plan = []
    known = visible
    for _ in range(rings):
        known_neighbours = _count(visible) * _mean_3x3(known.to(torch.float32))
        if visible.ndim == 5:  # x / 3 * 3 and x / 9 * 9 are x, as 3 = 2 + 1 and 9 = 8 + 1 (Kahan); x / 27 * 27 is not
            known_neighbours = known_neighbours.round()
        ring = (known_neighbours > 0) & ~known
        if inside is not None:
            ring = ring & inside
        plan.append((ring, known_neighbours.clamp(min=1.0)))
        known = known | ring
    return plan


def neighbour_padding(
    features: Tensor, visible: Tensor, plan: list[tuple[Tensor, Tensor]], *, detach_padding: bool = True
) -> Tensor:
    """Fill hidden positions ring by ring with the mean of their known 3x3 neighbours (section 3, "neighbour padding").

    A position of ring r becomes sum(known neighbours) / number of known neighbours, where visible positions and
    earlier rings are known and the outside of the image is not. Positions beyond the last ring become 0. The result is
    linear in `features`.

    Args:
        features: (B, C, H, W) float; read at visible positions only.
        visible: (B, 1, H, W) bool.
        plan: from `neighbour_rings` for the same `visible`.
        detach_padding: filled values carry no derivative (as in the paper); False makes the padding differentiable.

    Returns:
        (B, C, H, W), dtype of `features`; equal to `features` at visible positions bit for bit.
    """
    filled = hide_finite(features.detach() if detach_padding else features, visible)
    for ring, count in plan:
        factors = _count(visible) / count.to(filled.dtype)
        if torch.compiler.is_exporting():  # a ring is 0 before it is filled
            filled = filled + _mean_3x3(filled) * _spread(factors * ring, filled.shape[1])
        else:
            filled = torch.where(ring, _mean_3x3(filled) * factors, filled)
    return detached_beside(features, visible, filled) if detach_padding else filled


def mirrored_places(visible: Tensor, rings: int, inside: Tensor | None = None) -> Tensor:
    """The plan of mirrored padding: the place that each position takes its features from.

    A hidden position p takes those at m = 2 q - p, where q is the visible position nearest to p (Euclidean distance):
    the features beyond the edge of the hole, mirrored at that edge. Where m is hidden or outside the image, it takes
    those at q. Of several nearest positions q is the topmost one, and of those in one row the leftmost one; so in a
    flipped picture a position that has such a choice may take other features than in the picture itself.

    Within reach are positions with q at most sqrt(2) x rings away, sqrt(n) x rings for n axes, which are all those of
    `rings` rings and few more.

    Args:
        visible: (B, 1, H, W) bool.
        rings: at least 1.
        inside: (B, 1, H, W) bool, the positions of each image, where it is smaller than the map; no other is filled.

    Returns:
        (B, H x W) int64, places row by row; visible positions, and hidden ones out of reach, keep their own.
    """
    lengths = visible.shape[2:]
    axes = len(lengths)
    reach = math.isqrt(axes * rings * rings)
    size, beyond = 2 * reach + 1, axes * rings * rings + 1
    unit = size**axes
    kind = torch.int32 if 2 * beyond * unit < 2**31 else torch.int64
    # A number for each position: squared distance, then rows, then columns to q; the least over each axis in turn.
    keys = torch.where(visible[:, 0], 0, beyond * unit).to(kind)
    for axis in range(axes):
        behind = axes - 1 - axis
        framed = F.pad(keys, (0, 0) * behind + (reach, reach), value=beyond * unit)
        keys = torch.full_like(keys, beyond * unit)
        for index, away in enumerate(range(-reach, reach + 1)):
            shifted = framed.narrow(axis + 1, index, lengths[axis])
            keys = torch.minimum(keys, shifted + (away * away * unit + index * size**behind))
    in_reach = keys < beyond * unit
    own = mirrored = nearest = torch.zeros((), dtype=torch.int64, device=visible.device)
    is_inside = torch.ones_like(in_reach)
    for axis, length in enumerate(lengths):
        behind = axes - 1 - axis
        step = torch.where(in_reach, keys // size**behind % size - reach, 0).long()
        place = beside(torch.arange(length, device=visible.device), behind)
        target = place + 2 * step
        is_inside = is_inside & (target >= 0) & (target < length)
        own, nearest = own * length + place, nearest * length + place + step
        mirrored = mirrored * length + target.clamp(0, length - 1)
    mirrored, nearest = mirrored.flatten(1), nearest.flatten(1)
    is_visible = visible.flatten(1).gather(1, mirrored) & is_inside.flatten(1)
    places = torch.where(is_visible, mirrored, nearest)
    return places if inside is None else torch.where(inside.flatten(1), places, own.flatten())


def mirrored_padding(features: Tensor, visible: Tensor, places: Tensor, *, detach_padding: bool = True) -> Tensor:
    """Fill hidden positions with features from the other side of the edge of their hole, in one gather.

    Args:
        features: (B, C, H, W) float; read at visible positions only.
        visible: (B, 1, H, W) bool.
        places: from `mirrored_places` for the same `visible`.
        detach_padding: filled values carry no gradient; False makes the padding differentiable.

    Returns:
        (B, C, H, W), dtype of `features`; equal to `features` at visible positions bit for bit, 0 out of reach.
    """
    shown = torch.where(visible, features.detach() if detach_padding else features, 0.0)  # masked_fill copies anew
    if shown.is_contiguous():
        filled = shown.flatten(2).gather(2, places[:, None].expand(-1, shown.shape[1], -1)).view_as(shown)
    else:  # channels-last features stay so
        rows = rows_first(shown)
        taken = rows.flatten(1, -2).gather(1, places[..., None].expand(-1, -1, rows.shape[-1]))
        filled = channels_first(taken.view_as(rows))
    return detached_beside(features, visible, filled) if detach_padding else filled


def propagate_visible(
    visible: Tensor, kernel_size: Sizes, stride: Sizes, padding: Padding, dilation: Sizes, *, ceil_mode: bool = False
) -> Tensor:
    """An output position is visible when any input position under its window is (section 3, "mask propagation").

    Args:
        visible: (B, 1, H, W) bool.
        kernel_size: window of the convolution or pool, a number for each axis of positions.
        stride: of the window.
        padding: hidden positions added, in the order of `torch.nn.functional.pad`.
        dilation: of the window.
        ceil_mode: as in `torch.nn.MaxPool2d`: windows may run over the end, but none starts in the padding there.

    Returns:
        (B, 1, H', W') bool, the size of the convolution's or pool's output.
    """
    padded = F.pad(visible.to(torch.float32), padding)
    pooled: Tensor = MAX_POOLS[len(kernel_size)](padded, kernel_size, stride, dilation=dilation, ceil_mode=ceil_mode)
    if ceil_mode:
        lengths = zip(visible.shape[2:], before(padding), stride, strict=True)
        pooled = cropped(pooled, [-(-(length + ahead) // step) for length, ahead, step in lengths])
    return pooled > 0


def visible_moments(features: Tensor, visible: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance of each channel over the visible positions of the batch.

    Args:
        features: (B, C, H, W) float.
        visible: (B, 1, H, W) bool.

    Returns:
        mean (C,), variance (C,), both float32 at least, and the number of visible positions () of the same dtype;
        mean and variance are 0 where nothing is visible.
    """
    precision = torch.promote_types(features.dtype, torch.float32)
    count = visible.sum().to(precision)
    divisor = count.clamp(min=1)
    others = (0, *range(2, features.ndim))
    mean = hide(features, visible).sum(dim=others, dtype=precision) / divisor
    centred = hide(features.to(precision) - beside(mean, features.ndim - 2), visible)
    return mean, centred.square().sum(dim=others) / divisor, count


def masked_group_norm(
    features: Tensor, visible: Tensor, num_groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """Group norm (Wu and He, 2018, arXiv 1803.08494) with the statistics of visible positions only.

    y = (x - mean) / sqrt(variance + eps) * weight + bias; mean and biased variance of each sample and group are taken
    over its channels at visible positions.

    Args:
        features: (B, C, H, W) float, C divisible by `num_groups`.
        visible: (B, 1, H, W) bool.
        num_groups: groups of neighbouring channels.
        weight: (C,) or None for 1.
        bias: (C,) or None for 0.
        eps: added to the variance.

    Returns:
        (B, C, H, W), dtype of `features`, computed in float32 at least; 0 at hidden positions.
    """
    precision = torch.promote_types(features.dtype, torch.float32)
    shown = hide(features, visible).to(precision).unflatten(1, (num_groups, -1))
    positions, others = visible.unsqueeze(1), tuple(range(2, shown.ndim))
    count = positions.sum(dim=others, keepdim=True).clamp(min=1) * shown.shape[2]
    mean = shown.sum(dim=others, keepdim=True) / count
    centred = hide(shown - mean, positions)
    variance = centred.square().sum(dim=others, keepdim=True) / count
    normalised = (centred * torch.rsqrt(variance + eps)).flatten(1, 2)
    if weight is not None:
        normalised = normalised * beside(weight, features.ndim - 2)
    if bias is not None:
        normalised = normalised + beside(bias, features.ndim - 2)
    return hide(normalised.to(features.dtype), visible)


def _mean_3x3(images: Tensor) -> Tensor:
    """Not the sum, by divisor_override=1, which `torch.onnx.export` drops without a word."""
    if images.ndim == 5:  # torch refuses volumes of fewer than 3 planes, whatever the padding
        return F.avg_pool3d(F.pad(images, (1,) * 6), kernel_size=3, stride=1)
    pool = AVERAGE_POOLS[images.ndim - 2]
    return pool(images, kernel_size=3, stride=1, padding=1)  # type: ignore[no-any-return]


def _count(images: Tensor) -> float:
    """How many positions a window of 3 along each axis has."""
    return 3.0 ** (images.ndim - 2)


def detached_beside(features: Tensor, visible: Tensor, filled: Tensor) -> Tensor:
    """`filled`, which carries no derivative, with that of `features` at visible positions."""
    return torch.where(visible, features, filled) if features.requires_grad or is_transformed() else filled
