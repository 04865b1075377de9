"""Inputs that the tests of the tensor functions share."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SIZES = [(1, 1), (1, 7), (5, 8), (9, 4)]
TOLERANCE = {torch.float64: 5e-7, torch.float32: 2e-6, torch.bfloat16: 3e-2}  # neighbour weights are float32
MEMORY_FORMATS = [torch.contiguous_format, torch.channels_last]


def draw_visible(height: int, width: int) -> Tensor:
    """(6, 1, H, W): sparse, half, dense, nothing, everything, one corner pixel."""
    generator = torch.Generator().manual_seed(height * 100 + width)
    noise = torch.rand(6, 1, height, width, generator=generator)
    visible = noise < torch.tensor([0.1, 0.5, 0.9, 0.0, 2.0, 0.0])[:, None, None, None]
    visible[5, 0, -1, 0] = True
    return visible


def draw_features(
    batch: int, channels: int, height: int, width: int, dtype: torch.dtype = torch.float64, seed: int = 0
) -> Tensor:
    """Uniform in [-1, 1)."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(batch, channels, height, width, generator=generator, dtype=torch.float64) * 2 - 1).to(dtype)


def exact(tensor: Tensor) -> NDArray[np.float64]:
    """The same numbers for the reference."""
    return tensor.detach().double().numpy()


def assert_close(given: Tensor, expected: NDArray[np.float64] | Tensor, tolerance: float) -> None:
    """Largest difference at most `tolerance` x max(1, largest expected magnitude)."""
    given, expected = given.detach().double(), torch.as_tensor(expected).detach().double()
    assert given.shape == expected.shape
    scale = max(1.0, float(expected.abs().max()))
    assert float((given - expected).abs().max()) <= tolerance * scale
