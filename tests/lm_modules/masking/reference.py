"""Layer masking once more, slow and obvious: NumPy, float64, one loop for each position.

Features are (B, C, H, W), `visible` is (B, H, W) bool. Padding is ((top, bottom), (left, right)).
"""

import math
from collections.abc import Iterator

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


def convolution(
    features: Features, visible: Visible, weight: Features, stride: int = 1, padding: int = 0
) -> tuple[Features, Visible]:
    kernel = weight.shape[2:]
    geometry = kernel, (stride, stride), ((padding, padding), (padding, padding)), (1, 1)
    filled, _ = neighbour_padding(features, visible, rings=max(kernel) - 1)
    seen = propagate(visible, *geometry)
    result = np.zeros((len(features), len(weight), *seen.shape[1:]))
    for row, column, window in windows(visible.shape[1:], *geometry):
        for j, i, y, x in window:
            result[:, :, row, column] += filled[:, :, y, x] @ weight[:, :, j, i].T
    return result, seen


def max_pool(features: Features, visible: Visible, kernel: int, stride: int, padding: int) -> tuple[Features, Visible]:
    geometry = (kernel, kernel), (stride, stride), ((padding, padding), (padding, padding)), (1, 1)
    hidden_zero, seen = np.where(visible[:, None], features, 0.0), propagate(visible, *geometry)
    result = np.zeros((*features.shape[:2], *seen.shape[1:]))
    for row, column, window in windows(visible.shape[1:], *geometry):
        result[:, :, row, column] = np.max([hidden_zero[:, :, y, x] for _, _, y, x in window], axis=0)
    return result, seen


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
