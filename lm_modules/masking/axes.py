"""What depends on how many axes positions have: 1 (signals), 2 (images) or 3 (volumes and clips).

Features are (B, C, *size), a mask (B, 1, *size). Settings of windows are tuples with a number for each axis, paddings
tuples in the order of `torch.nn.functional.pad`: before and after the last axis, before and after the one ahead of it.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Axes = tuple[int, ...]
"""Axis of the images, then those of their positions, ascending."""
Sizes = tuple[int, ...]
Padding = tuple[int, ...]

CONVOLUTIONS, TRANSPOSED, MAX_POOLS, AVERAGE_POOLS, ADAPTIVE_AVERAGE_POOLS = (
    {count: getattr(F, f"{name}{count}d") for count in (1, 2, 3)}
    for name in ("conv", "conv_transpose", "max_pool", "avg_pool", "adaptive_avg_pool")
)
MEMORY = {4: torch.channels_last, 5: torch.channels_last_3d}
_ROWS = {3: (0, 2, 1), 4: (0, 2, 3, 1), 5: (0, 2, 3, 4, 1)}
_CHANNELS_FIRST = {3: (0, 2, 1), 4: (0, 3, 1, 2), 5: (0, 4, 1, 2, 3)}


def times(size: Sequence[int]) -> str:
    """A size in words, such as 224 x 224."""
    return " x ".join(map(str, size))


def images_first(count: int) -> Axes:
    """Axes of the images and of `count` axes of positions in (B, C, *size)."""
    return (0, *range(2, 2 + count))


def tuple_of(value: int | Sequence[int], count: int) -> Sizes:
    """An argument that may be one number for all axes."""
    if isinstance(value, int):
        return (value,) * count
    return tuple(value) * (count if len(value) == 1 else 1)


def symmetric(padding: int | Sequence[int], count: int) -> Padding:
    """A padding given as one number, or one for each axis."""
    return tuple([each for size in tuple_of(padding, count)[::-1] for each in (size, size)])


def padding_of(before: Sequence[int], after: Sequence[int]) -> Padding:
    """A padding given by what is ahead of and behind each axis."""
    return tuple(each for pair in zip(before[::-1], after[::-1], strict=True) for each in pair)


def added(first: Padding, second: Padding) -> Padding:
    """Two paddings, one around the other."""
    return tuple(one + other for one, other in zip(first, second, strict=True))


def before(padding: Padding) -> Padding:
    """What a padding adds ahead of each axis."""
    return padding[-2::-2]


def after(padding: Padding) -> Padding:
    """What a padding adds behind each axis."""
    return padding[::-2]


def cropped(features: Tensor, size: Sequence[int]) -> Tensor:
    """The first positions of (B, C, ...) along each axis, a view: (B, C, *size)."""
    return features[(slice(None), slice(None), *map(slice, size))]


def beside(vector: Tensor, count: int) -> Tensor:
    """(..., C) as (..., C, 1, ...), against `count` axes of positions."""
    return vector.reshape(*vector.shape, *[1] * count)


def rows_first(features: Tensor) -> Tensor:
    """(B, *size, C) of (B, C, *size), a view."""
    return features.permute(_ROWS[features.ndim])


def channels_first(rows: Tensor) -> Tensor:
    """(B, C, *size) of (B, *size, C), a view."""
    return rows.permute(_CHANNELS_FIRST[rows.ndim])


def is_channels_last(features: Tensor) -> bool:
    """Whether the channels of a position lie side by side; signals have no memory format of torch's own for that."""
    if features.ndim in MEMORY:
        return features.is_contiguous(memory_format=MEMORY[features.ndim])
    return rows_first(features).is_contiguous()


def channels_last(features: Tensor) -> Tensor:
    """The features themselves where they are channels-last, else a copy that is."""
    if features.ndim in MEMORY:
        return features.contiguous(memory_format=MEMORY[features.ndim])
    return channels_first(rows_first(features).contiguous())


def clone_channels_last(features: Tensor) -> Tensor:
    """A channels-last copy."""
    if features.ndim in MEMORY:
        return features.clone(memory_format=MEMORY[features.ndim])
    return channels_first(rows_first(features).clone(memory_format=torch.contiguous_format))
