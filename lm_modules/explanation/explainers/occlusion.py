"""Occlusion: how much a prediction falls when one segment, or one window, is hidden."""

import numpy as np
import torch
from torch import Tensor

from maskrobust.errors import InputError, check_at_least
from maskrobust.lm_modules.explanation.answers import Queries
from maskrobust.lm_modules.explanation.explained import Explanation
from maskrobust.lm_modules.explanation.explainers.registry import Question, explainer
from maskrobust.lm_modules.explanation.plan import ExplanationPlan
from maskrobust.lm_modules.explanation.segments import Segments
from maskrobust.lm_modules.reliance.arrays import BoolArray, FloatArray


def leave_one_out_queries(segments: int) -> Tensor:
    """Queries (M + 1, M) bool that show everything, and then everything but one segment; M is at least 2."""
    check_at_least("segments", segments, 2)
    return torch.cat((torch.ones(1, segments, dtype=torch.bool), ~torch.eye(segments, dtype=torch.bool)))


def leave_one_out(answers: FloatArray) -> FloatArray:
    """Occlusion scores (M, K): the prediction for everything minus that without each segment.

    `answers` are those to `leave_one_out_queries`. Nothing is drawn, so there is no interval.
    """
    return answers[0] - answers[1:]  # type: ignore[no-any-return]


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


def segment_means(segments: Segments, heat: FloatArray) -> FloatArray:
    """The mean over each segment of the first image of values at pixels (H, W, K): (M, K) float64."""
    labels = segments.labels[0].cpu().numpy().ravel()
    sums = np.zeros((segments.count(0), heat.shape[-1]))
    np.add.at(sums, labels, heat.reshape(len(labels), -1))
    return sums / np.bincount(labels)[:, np.newaxis]


def _ask_windows(plan: ExplanationPlan, segments: Segments, _key: int) -> Question:
    height, width = segments.labels.shape[1:]
    queries = occlusion_queries(height, width, plan.window, plan.window_stride, segments.labels.device)
    return Question("windows", queries, None)


def _ask_leave_one_out(_plan: ExplanationPlan, segments: Segments, _key: int) -> Question:
    z = leave_one_out_queries(segments.count(0))
    return Question("leave_one_out", segments.queries(0, z), z)


@explainer("occlusion", title="Occlusion", asks=_ask_windows)
def _occlusion(plan: ExplanationPlan, segments: Segments, _z: Tensor, answers: FloatArray) -> Explanation:
    height, width = segments.labels.shape[1:]
    heat = occlusion(answers, height, width, plan.window, plan.window_stride)
    return Explanation.without_interval(segment_means(segments, heat))


@explainer("leave_one_out", title="Leave one out", asks=_ask_leave_one_out)
def _leave_one_out(_plan: ExplanationPlan, _segments: Segments, _z: Tensor, answers: FloatArray) -> Explanation:
    return Explanation.without_interval(leave_one_out(answers))
