"""Layer masking as pure tensor functions: padding, propagation, pooling and batch norm on visible positions.

Source: Balasubramanian and Feizi, "Towards Improved Input Masking for Convolutional Neural Networks", ICCV 2023,
section 3. `visible` is bool, (B, 1, H, W), True where a position may be seen; no function reads the features at hidden
positions unless it says so.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from maskrobust.lm_modules.masking.torch_private import is_transformed


def hide(features: Tensor, visible: Tensor) -> Tensor:
    """0 at hidden positions, whatever they hold (NaN too) and with a gradient of exactly 0; unchanged elsewhere.

    Args:
        features: (B, C, H, W) float.
        visible: (B, 1, H, W) bool.

    Returns:
        (B, C, H, W), dtype of `features`.
    """
    return torch.where(
        visible, features, 0.0
    )  # masked_fill by one channel's mask makes channels-last features contiguous


def hide_finite(features: Tensor, visible: Tensor) -> Tensor:
    """`hide` where no value is NaN or infinite, as those that a network computes; in an exported graph a product.

    A choice by a mask of one channel takes ONNX Runtime out of the layout in which it convolves fast.
    """
    if not torch.compiler.is_exporting():
        return hide(features, visible)
    return features * _spread(visible.to(features.dtype), features.shape[1])


def _spread(numbers: Tensor, channels: int) -> Tensor:
    """A map (B, 1, H, W) repeated for each channel, by a convolution, which ONNX Runtime computes in its own layout."""
    return F.conv2d(numbers, numbers.new_ones(channels, 1, 1, 1))


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
        known_neighbours = 9.0 * _mean_3x3(known.to(torch.float32))  # x / 9 * 9 is x, as 9 = 8 + 1 (Kahan)
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
        factors = 9.0 / count.to(filled.dtype)
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

    Within reach are positions with q at most sqrt(2) x rings away, which are all those of `rings` rings and few more.

    Args:
        visible: (B, 1, H, W) bool.
        rings: at least 1.
        inside: (B, 1, H, W) bool, the positions of each image, where it is smaller than the map; no other is filled.

    Returns:
        (B, H x W) int64, places row by row; visible positions, and hidden ones out of reach, keep their own.
    """
    height, width = visible.shape[2:]
    reach = math.isqrt(2 * rings * rings)
    size, beyond = 2 * reach + 1, 2 * rings * rings + 1
    kind = torch.int32 if 2 * beyond * size * size < 2**31 else torch.int64
    steps = torch.arange(-reach, reach + 1, device=visible.device, dtype=kind)
    # A number for each position: squared distance, then rows, then columns to q; the least over each axis in turn.
    keys = torch.where(visible[:, 0], 0, beyond * size * size).to(kind)
    for axis, frame, tie in ((1, (0, 0, reach, reach), size), (2, (reach, reach), 1)):
        costs = steps * steps * (size * size) + (steps + reach) * tie
        framed = F.pad(keys, frame, value=beyond * size * size)
        keys = (framed.unfold(axis, size, 1) + costs).amin(dim=-1).clamp(max=beyond * size * size)
    in_reach = keys < beyond * size * size
    down = torch.where(in_reach, keys // size % size - reach, 0).long()
    across = torch.where(in_reach, keys % size - reach, 0).long()
    row = torch.arange(height, device=visible.device)[:, None]
    column = torch.arange(width, device=visible.device)
    y, x = row + 2 * down, column + 2 * across
    is_inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    mirrored = (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).flatten(1)
    nearest = ((row + down) * width + column + across).flatten(1)
    is_visible = visible.flatten(1).gather(1, mirrored) & is_inside.flatten(1)
    places = torch.where(is_visible, mirrored, nearest)
    return places if inside is None else torch.where(inside.flatten(1), places, (row * width + column).flatten())


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
        rows = shown.permute(0, 2, 3, 1)
        taken = rows.flatten(1, 2).gather(1, places[..., None].expand(-1, -1, rows.shape[3]))
        filled = taken.view_as(rows).permute(0, 3, 1, 2)
    return detached_beside(features, visible, filled) if detach_padding else filled


def propagate_visible(
    visible: Tensor,
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
    *,
    ceil_mode: bool = False,
) -> Tensor:
    """An output position is visible when any input position under its window is (section 3, "mask propagation").

    Args:
        visible: (B, 1, H, W) bool.
        kernel_size: window of the convolution or pool, (height, width).
        stride: of the window.
        padding: hidden positions added at (left, right, top, bottom), the order of `torch.nn.functional.pad`.
        dilation: of the window.
        ceil_mode: as in `torch.nn.MaxPool2d`: windows may run over the end, but none starts in the padding there.

    Returns:
        (B, 1, H', W') bool, the size of the convolution's or pool's output.
    """
    padded = F.pad(visible.to(torch.float32), padding)
    pooled = F.max_pool2d(padded, kernel_size, stride, dilation=dilation, ceil_mode=ceil_mode)
    if ceil_mode:
        rows, columns = visible.shape[2] + padding[2], visible.shape[3] + padding[0]
        pooled = pooled[..., : -(-rows // stride[0]), : -(-columns // stride[1])]
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
    mean = hide(features, visible).sum(dim=(0, 2, 3), dtype=precision) / divisor
    centred = hide(features.to(precision) - mean[:, None, None], visible)
    return mean, centred.square().sum(dim=(0, 2, 3)) / divisor, count


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
    positions = visible.unsqueeze(1)
    count = positions.sum(dim=(2, 3, 4), keepdim=True).clamp(min=1) * shown.shape[2]
    mean = shown.sum(dim=(2, 3, 4), keepdim=True) / count
    centred = hide(shown - mean, positions)
    variance = centred.square().sum(dim=(2, 3, 4), keepdim=True) / count
    normalised = (centred * torch.rsqrt(variance + eps)).flatten(1, 2)
    if weight is not None:
        normalised = normalised * weight[:, None, None]
    if bias is not None:
        normalised = normalised + bias[:, None, None]
    return hide(normalised.to(features.dtype), visible)


def _mean_3x3(images: Tensor) -> Tensor:
    """Not the sum, by divisor_override=1, which `torch.onnx.export` drops without a word."""
    return F.avg_pool2d(images, kernel_size=3, stride=1, padding=1)


def detached_beside(features: Tensor, visible: Tensor, filled: Tensor) -> Tensor:
    """`filled`, which carries no derivative, with that of `features` at visible positions."""
    return torch.where(visible, features, filled) if features.requires_grad or is_transformed() else filled
