"""How a kernel is started: as many programs, each of which computes a part of a matrix of features."""

from typing import Any

import torch
from torch import Tensor

ROWS, CHANNELS = 32, 64
"""Rows and channels that one program holds at a time."""
SPLITS = 256
"""Programs that share the rows of a sum."""


def launch(program: Any, grid: tuple[int, ...], *arguments: Any) -> None:
    """Run a Triton program on the device of its first argument, once for each place of a grid."""
    with torch.cuda.device_of(arguments[0]):
        program[grid](*arguments)


def launch_tiles(program: Any, features: Tensor, *arguments: Any) -> None:
    """Run a program for each tile of channels-last features; it gets rows, channels, and those of a tile."""
    rows, channels = _shape(features)
    launch(
        program, (parts(rows, ROWS), parts(channels, CHANNELS)), features, *arguments, rows, channels, ROWS, CHANNELS
    )


def launch_splits(program: Any, features: Tensor, *arguments: Any) -> None:
    """Run a program for each split of the rows of channels-last features; it gets the tiles of a split as well."""
    rows, channels = _shape(features)
    steps = parts(rows, SPLITS * ROWS)
    launch(program, (SPLITS, parts(channels, CHANNELS)), features, *arguments, steps, rows, channels, ROWS, CHANNELS)


def parts(number: int, size: int) -> int:
    """How many parts of a size hold a number of rows or channels."""
    return -(-number // size)


def _shape(features: Tensor) -> tuple[int, int]:
    return features.numel() // features.shape[1], features.shape[1]
