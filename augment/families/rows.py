"""Masks drawn row by row: copying whole rows takes a fraction of the time of reading pixel by pixel."""

import numpy as np
import torch
from torch import Tensor

from maskrobust.augment.random import is_on_cpu


def take_rows(lines: Tensor, row: Tensor) -> Tensor:
    """Compose images from rows.

    Args:
        lines: (B, N, W), the N different rows of each image.
        row: (B, H) int64 in [0, N), which of them stands where.

    Returns:
        (B, H, W), dtype of `lines`.
    """
    first = torch.arange(len(lines), device=lines.device)[:, None] * lines.shape[1]
    if is_on_cpu(lines):  # a third of the time of torch
        every = lines.numpy().reshape(-1, lines.shape[2])
        return torch.from_numpy(np.take(every, (first + row).numpy(), axis=0))
    return lines.flatten(0, 1).index_select(0, (first + row).flatten()).reshape(*row.shape, lines.shape[2])
