"""The same layer masking on rows: features as (B x H x W, C), touching only the positions that need it.

In channels-last memory a feature map is a matrix with one row for each position, and picking rows is a plain copy.
Where hidden positions touch visible ones is a thin line, so padding only these rows costs far less than padding
everywhere. The number of such rows depends on the mask, which `torch.compile` cannot trace; there `functional` is used
instead.
"""

from typing import Any

import torch
from torch import Tensor

from maskrobust.lm_modules.masking.morphology import PaddingRows


def to_rows(features: Tensor) -> Tensor:
    """(B, C, H, W) as (B x H x W, C); a view where the features are channels-last, else a copy."""
    return features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])


def row_indices(positions: Tensor) -> Tensor:
    """Rows of the True positions of a (B, 1, H, W) bool map, (N,) int64 ascending."""
    return positions.flatten().nonzero().squeeze(1)


def pad_rows(features: Tensor, plan: list[PaddingRows], *, detach_padding: bool = True) -> Tensor:
    """Padding as in `functional`, leaving hidden positions out of reach as they are.

    Values at hidden positions mean nothing, so with detached padding channels-last features are filled where they lie:
    `features` itself changes at hidden positions, and nothing is copied. Backward passes of earlier operations read
    these positions only together with a gradient of 0.

    Args:
        features: (B, C, H, W) float; read at visible positions only.
        plan: from `morphology.PADDINGS`.
        detach_padding: filled values carry no gradient.

    Returns:
        (B, C, H, W) channels-last, dtype of `features`.
    """
    if not plan:
        return features
    if detach_padding and not torch.is_grad_enabled():
        return _padded_in_place(features, plan)
    if detach_padding:
        padded: Tensor = _PadRows.apply(features, plan)  # type: ignore[no-untyped-call]
        return padded
    rows = to_rows(features)
    for ring in plan:
        rows = rows.index_copy(0, ring.rows, ring.values(rows))
    return rows.reshape(features.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2)


def zero_rows(features: Tensor, rows: Tensor) -> Tensor:
    """0 at some rows; channels-last features that no gradient is asked of are changed where they lie.

    Args:
        features: (B, C, H, W) float.
        rows: (N,) int64.

    Returns:
        (B, C, H, W) channels-last.
    """
    if torch.is_grad_enabled() or not features.is_contiguous(memory_format=torch.channels_last):
        features = features.clone(memory_format=torch.channels_last)
    clear_rows(to_rows(features), rows)
    return features


class _PadRows(torch.autograd.Function):
    """Padding whose filled rows carry no gradient."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, plan: list[PaddingRows]) -> Tensor:
        ctx.plan = plan
        # Through `data`, for autograd would otherwise refuse the changed values at positions that it multiplies by 0.
        padded = _padded_in_place(features.data, plan)
        return features.view_as(features) if padded.data_ptr() == features.data_ptr() else padded

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = gradients[0].clone(memory_format=torch.channels_last)
        for ring in ctx.plan:
            clear_rows(to_rows(gradient), ring.rows)
        return gradient, None


def _padded_in_place(features: Tensor, plan: list[PaddingRows]) -> Tensor:
    if not features.is_contiguous(memory_format=torch.channels_last):
        features = features.clone(memory_format=torch.channels_last)
    rows = to_rows(features)
    numbers = _large_numbers(rows)
    for ring in plan:
        numbers.index_copy_(0, ring.rows, ring.values(rows).view(numbers.dtype))
    return features


def clear_rows(rows: Tensor, indices: Tensor) -> None:
    """Some of the rows (N, C) become 0 where they lie."""
    _large_numbers(rows).index_fill_(0, indices, 0)


def _large_numbers(rows: Tensor) -> Tensor:
    """The same memory as the largest numbers that a row is made of: torch copies rows number by number."""
    size = rows.shape[1] * rows.element_size()
    return rows.detach().view(next(number for number in _NUMBERS if size % number.itemsize == 0))


_NUMBERS = (torch.complex128, torch.int64, torch.int32, torch.int16)
