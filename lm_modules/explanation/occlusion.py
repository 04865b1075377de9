"""Occlusion: how much a prediction falls when a window is hidden."""

import numpy as np
import torch
from torch import Tensor

from maskrobust.errors import InputError
from maskrobust.lm_modules.explanation.asking import Queries
from maskrobust.lm_modules.reliance.arrays import BoolArray, FloatArray, IntArray


def occlusion_queries(height: int, width: int, window: int, stride: int, device: torch.device | str = "cpu") -> Queries:
    """Queries that show everything, and then everything but a square window, row by row.

    Windows begin every `stride` pixels; a last one in each direction ends at the border, so that each pixel is hidden
    at least once.

    All sizes are pixels, 1 <= stride <= window <= height and width; an InputError says so where they are not.
    """
    rows, columns = _hidden_lines(height, width, window, stride)
    hidden_rows, hidden_columns = (torch.from_numpy(each).to(device) for each in (rows, columns))
    count = len(rows) * len(columns)

    def visible(positions: Tensor) -> Tensor:
        of_window = (positions - 1).clamp(min=0)
        row, column = hidden_rows[of_window // len(columns)], hidden_columns[of_window % len(columns)]
        hidden = row[:, :, None] & column[:, None, :] & (positions > 0)[:, None, None]
        return ~hidden.unsqueeze(1)

    areas = torch.full((count + 1,), height * width - window * window)
    areas[0] = height * width
    return Queries(areas, visible)


def occlusion(answers: FloatArray, height: int, width: int, window: int, stride: int) -> FloatArray:
    """Occlusion scores of pixels: the mean fall of the prediction over the windows that hide a pixel.

    Source: Zeiler and Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, section 4.2.

    Args are the answers (1 + windows, K) to `occlusion_queries` and its sizes; an InputError says where these do not
    fit. The result is (height, width, K) float64, so choose classes before.
    """
    rows, columns = (each.astype(np.float64) for each in _hidden_lines(height, width, window, stride))
    if len(answers) != 1 + len(rows) * len(columns):
        raise InputError(
            f"answers must be to everything and {len(rows) * len(columns)} windows, got {len(answers)}; give the "
            "sizes that occlusion_queries got."
        )
    falls = (answers[0] - answers[1:]).reshape(len(rows), len(columns), -1)
    totals = np.einsum("rh,rck,cw->hwk", rows, falls, columns, optimize=True)
    scores: FloatArray = totals / np.outer(rows.sum(axis=0), columns.sum(axis=0))[:, :, np.newaxis]
    return scores


def _hidden_lines(height: int, width: int, window: int, stride: int) -> list[BoolArray]:
    """Which rows (windows down, height) and columns (windows across, width) of pixels each window hides, bool."""
    if not 1 <= stride <= window <= min(height, width):
        raise InputError(
            f"1 <= stride <= window <= {min(height, width)} is expected for an image of {height} x {width}, got "
            f"stride {stride} and window {window}; change them."
        )
    starts = [np.array([*range(0, side - window, stride), side - window])[:, None] for side in (height, width)]
    pixels = [np.arange(side) for side in (height, width)]
    return [(first <= pixel) & (pixel < first + window) for first, pixel in zip(starts, pixels, strict=True)]


def segment_means(labels: IntArray, heat: FloatArray) -> FloatArray:
    """The mean over each of M segments, labels (H, W) from 0, of values at pixels (H, W, K): (M, K) float64."""
    numbers = labels.ravel()
    sums = np.zeros((int(numbers.max()) + 1, heat.shape[-1]))
    np.add.at(sums, numbers, heat.reshape(len(numbers), -1))
    return sums / np.bincount(numbers)[:, np.newaxis]
