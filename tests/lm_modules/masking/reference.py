"""Layer masking once more, slow and obvious: NumPy, float64, one loop for each position.

Features are (B, C, H, W), `visible` is (B, H, W) bool. Padding is ((top, bottom), (left, right)).
"""

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float64]
Visible = NDArray[np.bool_]
Pair = tuple[int, int]
Padding = tuple[Pair, Pair]


def neighbour_padding(features: Features, visible: Visible, rings: int) -> tuple[Features, Visible]:
    """Filled features (0 where nothing was filled), and where they are known after the last ring."""
    filled, known = np.where(visible[:, None], features, 0.0), visible.copy()
    batch, height, width = visible.shape
    for _ in range(rings):
        means = {}
        for b, y, x in np.ndindex(batch, height, width):
            near = [(j, i) for j in range(y - 1, y + 2) for i in range(x - 1, x + 2) if inside(j, i, height, width)]
            values = [filled[b, :, j, i] for j, i in near if known[b, j, i]]
            if values and not known[b, y, x]:
                means[b, y, x] = sum(values) / len(values)
        for (b, y, x), mean in means.items():
            filled[b, :, y, x], known[b, y, x] = mean, True
    return filled, known


def mirrored_padding(features: Features, visible: Visible, rings: int) -> tuple[Features, Visible]:
    """Features mirrored at the nearest visible position, its own where the mirror is hidden; 0 further away."""
    filled, known = np.where(visible[:, None], features, 0.0), visible.copy()
    for b, y, x in np.ndindex(visible.shape):
        shown = [(math.dist((j, i), (y, x)), j, i) for j, i in np.ndindex(visible.shape[1:]) if visible[b, j, i]]
        if not visible[b, y, x] and shown:
            distance, j, i = min(shown)
            far = 2 * j - y, 2 * i - x
            is_seen = inside(*far, *visible.shape[1:]) and visible[b, *far]
            known[b, y, x] = distance <= math.sqrt(2) * rings + 1e-9
            filled[b, :, y, x] = known[b, y, x] * features[b, :, *(far if is_seen else (j, i))]
    return filled, known


PADDINGS = {"mean": neighbour_padding, "mirror": mirrored_padding}


def inside(y: int, x: int, height: int, width: int) -> bool:
    return 0 <= y < height and 0 <= x < width


def output_size(size: int, kernel: int, stride: int, padding: Pair, dilation: int, *, ceil_mode: bool = False) -> int:
    steps = (size + sum(padding) - dilation * (kernel - 1) - 1) / stride
    outputs = (math.ceil(steps) if ceil_mode else math.floor(steps)) + 1
    starts_in_the_far_padding = (outputs - 1) * stride >= size + padding[0]
    return outputs - 1 if ceil_mode and starts_in_the_far_padding else outputs


def windows(
    size: Pair, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair, *, ceil_mode: bool = False
) -> Iterator[tuple[int, int, list[tuple[int, int, int, int]]]]:
    """For each output position, its window: (row in kernel, column in kernel, y, x) of positions inside the image."""
    rows, columns = (
        output_size(size[a], kernel[a], stride[a], padding[a], dilation[a], ceil_mode=ceil_mode) for a in (0, 1)
    )
    for row, column in np.ndindex(rows, columns):
        window = []
        for j, i in np.ndindex(*kernel):
            y = row * stride[0] - padding[0][0] + j * dilation[0]
            x = column * stride[1] - padding[1][0] + i * dilation[1]
            if inside(y, x, *size):
                window.append((j, i, y, x))
        yield row, column, window


def propagate(
    visible: Visible, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair, *, ceil_mode: bool = False
) -> Visible:
    places = list(windows(visible.shape[1:], kernel, stride, padding, dilation, ceil_mode=ceil_mode))
    result = np.zeros((len(visible), places[-1][0] + 1, places[-1][1] + 1), dtype=bool)
    for row, column, window in places:
        for b in range(len(visible)):
            result[b, row, column] = any(visible[b, y, x] for _, _, y, x in window)
    return result


def with_whole_images(seen: Visible, visible: Visible) -> Visible:
    """An image of which everything was visible stays so, whatever was added around it."""
    return seen | visible.all(axis=(1, 2))[:, None, None]


def convolution(
    features: Features,
    visible: Visible,
    weight: Features,
    bias: Features | None = None,
    stride: Pair = (1, 1),
    padding: Padding = ((0, 0), (0, 0)),
    dilation: Pair = (1, 1),
    groups: int = 1,
    hole: str = "mean",
) -> tuple[Features, Visible]:
    kernel = weight.shape[2:]
    rings = max((size - 1) * step for size, step in zip(kernel, dilation, strict=True))
    filled, _ = PADDINGS[hole](features, visible, rings)
    seen = propagate(visible, kernel, stride, padding, dilation)
    result = np.zeros((len(features), len(weight), *seen.shape[1:]))
    inputs, outputs = features.shape[1] // groups, len(weight) // groups
    for row, column, window in windows(visible.shape[1:], kernel, stride, padding, dilation):
        for g, (j, i, y, x) in itertools.product(range(groups), window):
            reads, makes = slice(g * inputs, (g + 1) * inputs), slice(g * outputs, (g + 1) * outputs)
            result[:, makes, row, column] += filled[:, reads, y, x] @ weight[makes, :, j, i].T
    return result if bias is None else result + bias[:, None, None], with_whole_images(seen, visible)


def transposed_convolution(
    features: Features,
    visible: Visible,
    weight: Features,
    stride: Pair,
    padding: Pair,
    output_padding: Pair,
    dilation: Pair,
    groups: int = 1,
) -> tuple[Features, Visible]:
    """Every input is added to the outputs that it reaches; `weight` is (in, out / groups, height, width)."""
    batch, height, width = visible.shape
    kernel, outputs = weight.shape[2:], weight.shape[1]
    size = [
        (visible.shape[1 + a] - 1) * stride[a] - 2 * padding[a] + dilation[a] * (kernel[a] - 1) + output_padding[a] + 1
        for a in (0, 1)
    ]
    filled, _ = neighbour_padding(features, visible, rings=height + width)
    result, seen = np.zeros((batch, outputs * groups, *size)), np.zeros((batch, *size), dtype=bool)
    inputs = features.shape[1] // groups
    for y, x, j, i in np.ndindex(height, width, *kernel):
        row, column = y * stride[0] - padding[0] + j * dilation[0], x * stride[1] - padding[1] + i * dilation[1]
        if inside(row, column, *size):
            seen[:, row, column] |= visible[:, y, x]
            for g in range(groups):
                reads, makes = slice(g * inputs, (g + 1) * inputs), slice(g * outputs, (g + 1) * outputs)
                result[:, makes, row, column] += filled[:, reads, y, x] @ weight[reads, :, j, i]
    return result, with_whole_images(seen, visible)


def frame(features: Features, visible: Visible, padding: Padding, mode: str) -> tuple[Features, Visible]:
    """Features and mask framed alike, by the position that each one of the frame repeats; 0 and hidden for zeros."""
    size = [visible.shape[1 + a] + sum(padding[a]) for a in (0, 1)]
    result, seen = np.zeros((*features.shape[:2], *size)), np.zeros((len(visible), *size), dtype=bool)
    for row, column in np.ndindex(*size):
        places = [source(place - padding[a][0], visible.shape[1 + a], mode) for a, place in enumerate((row, column))]
        if None not in places:
            result[:, :, row, column] = features[:, :, *places]
            seen[:, row, column] = visible[:, *places]
    return result, with_whole_images(seen, visible)


def source(place: int, size: int, mode: str) -> int | None:
    """Which of `size` places a place beyond them repeats."""
    if 0 <= place < size:
        return place
    if mode == "reflect":
        return -place if place < 0 else 2 * (size - 1) - place
    return {"zeros": None, "replicate": min(max(place, 0), size - 1), "circular": place % size}[mode]


def pool(
    features: Features,
    visible: Visible,
    kernel: Pair,
    stride: Pair,
    padding: Padding = ((0, 0), (0, 0)),
    dilation: Pair = (1, 1),
    *,
    reduce: Callable[[list[Features]], Features] = lambda values: np.max(values, axis=0),
    ceil_mode: bool = False,
) -> tuple[Features, Visible]:
    """`reduce` of the values under each window, inside the image, 0 where hidden."""
    geometry = kernel, stride, padding, dilation
    hidden_zero, seen = hide(features, visible), propagate(visible, *geometry, ceil_mode=ceil_mode)
    result = np.zeros((*features.shape[:2], *seen.shape[1:]))
    for row, column, window in windows(visible.shape[1:], *geometry, ceil_mode=ceil_mode):
        result[:, :, row, column] = reduce([hidden_zero[:, :, y, x] for _, _, y, x in window])
    return result, with_whole_images(seen, visible)


def adaptive_pool(features: Features, visible: Visible, size: Pair, kind: str) -> tuple[Features, Visible]:
    """Bins from floor(i h / n) up to ceil((i + 1) h / n): mean over visible values, or maximum with hidden ones 0."""
    batch, channels = features.shape[:2]
    result, seen = np.zeros((batch, channels, *size)), np.zeros((batch, *size), dtype=bool)
    for b, row, column in np.ndindex(batch, *size):
        places = [
            slice(i * full // bins, math.ceil((i + 1) * full / bins))
            for i, full, bins in zip((row, column), visible.shape[1:], size, strict=True)
        ]
        shown = visible[b, *places]
        seen[b, row, column] = shown.any()
        if shown.any():
            values = features[b, :, *places]
            masked = values[:, shown].mean(axis=1) if kind == "mean" else np.where(shown, values, 0).max(axis=(1, 2))
            result[b, :, row, column] = masked
    return result, seen


def hide(features: Features, visible: Visible) -> Features:
    return np.where(visible[:, None], features, 0.0)


def group_norm(features: Features, visible: Visible, groups: int, eps: float = 1e-5) -> Features:
    """Each image and group with the mean and biased variance of its visible values; hidden positions become 0."""
    result = np.zeros(features.shape)
    width = features.shape[1] // groups
    for b, g in np.ndindex(len(features), groups):
        channels = slice(g * width, (g + 1) * width)
        values = features[b, channels][:, visible[b]]
        if values.size:
            result[b, channels][:, visible[b]] = (values - values.mean()) / np.sqrt(values.var() + eps)
    return result


def layer_norm(features: Features, eps: float = 1e-5) -> Features:
    """Each position with the mean and biased variance of its channels."""
    result = np.zeros(features.shape)
    for b, y, x in np.ndindex(len(features), *features.shape[2:]):
        values = features[b, :, y, x]
        result[b, :, y, x] = (values - values.mean()) / np.sqrt(values.var() + eps)
    return result


def resize(
    features: Features, visible: Visible, size: Pair, mode: str, *, align_corners: bool = False
) -> tuple[Features, Visible]:
    """A new position is made from one old one, or from the four around it, weighted by how near they are."""
    filled, _ = neighbour_padding(features, visible, rings=1)
    result, seen = np.zeros((*features.shape[:2], *size)), np.zeros((len(visible), *size), dtype=bool)
    for row, column in np.ndindex(*size):
        rows = shares(row, visible.shape[1], size[0], mode, align_corners=align_corners)
        columns = shares(column, visible.shape[2], size[1], mode, align_corners=align_corners)
        for (y, share), (x, other_share) in itertools.product(rows, columns):
            result[:, :, row, column] += share * other_share * filled[:, :, y, x]
            seen[:, row, column] |= visible[:, y, x] & (share * other_share > 1e-6)
    return result, seen


def shares(place: int, old: int, new: int, mode: str, *, align_corners: bool) -> list[tuple[int, float]]:
    """Old places along one axis with their weights."""
    if mode == "nearest":
        return [(place * old // new, 1.0)]
    aligned, centred = place * (old - 1) / max(1, new - 1), max((place + 0.5) * old / new - 0.5, 0.0)
    at = aligned if align_corners else centred
    first = min(int(at), old - 1)
    return [(first, 1 - (at - first)), (min(first + 1, old - 1), at - first)]


def visible_values(features: Features, visible: Visible) -> Features:
    """Features at visible positions, (N, C)."""
    places = [(b, y, x) for b, y, x in np.ndindex(*visible.shape) if visible[b, y, x]]
    return np.array([features[b, :, y, x] for b, y, x in places]).reshape(len(places), features.shape[1])


def masked_mean(features: Features, visible: Visible) -> Features:
    """(B, C) mean over visible positions, 0 where nothing is visible."""
    result = np.zeros(features.shape[:2])
    for b in range(len(features)):
        values = visible_values(features[b : b + 1], visible[b : b + 1])
        if len(values):
            result[b] = values.mean(axis=0)
    return result


def batch_norm(features: Features, mean: Features, variance: Features, weight: Features, bias: Features) -> Features:
    def channels(vector: Features) -> Features:
        return vector[None, :, None, None]

    scaled = (features - channels(mean)) / np.sqrt(channels(variance) + 1e-5)
    return scaled * channels(weight) + channels(bias)
