"""Padding by rows: the same numbers as the dense functions, from the positions that need them alone."""

import pytest
import torch
from torch import Tensor

from maskrobust.lm_modules.masking import VisibleMap, functional, rows
from maskrobust.lm_modules.masking.masked import MaskingOptions, PaddingRule
from maskrobust.lm_modules.masking.morphology import PADDINGS, PaddingRows
from tests.lm_modules.masking import reference
from tests.lm_modules.masking.cases import (
    MEMORY_FORMATS,
    SIZES,
    TOLERANCE,
    assert_close,
    draw_features,
    draw_visible,
    exact,
)

every_padding = pytest.mark.parametrize("padding", ["mean", "mirror"])


def planned(visible: Tensor, rings: int, padding: str = "mean") -> list[PaddingRows]:
    return PADDINGS[padding](visible, rings)


def known_after(visible: Tensor, rings: int) -> Tensor:
    for ring, _ in functional.neighbour_rings(visible, rings):
        visible = visible | ring
    return visible


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("rings", range(1, 7))
@every_padding
def test_padded_rows_are_those_of_the_loops(height: int, width: int, rings: int, padding: str) -> None:
    visible, features = draw_visible(height, width), draw_features(6, 3, height, width)
    padded = rows.pad_rows(functional.hide(features, visible), planned(visible, rings, padding))
    expected, _ = reference.PADDINGS[padding](exact(features), visible[:, 0].numpy(), rings)
    assert_close(padded, expected, TOLERANCE[torch.float64])


@every_padding
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("memory_format", MEMORY_FORMATS, ids=str)
@pytest.mark.parametrize("detach_padding", [True, False])
@pytest.mark.parametrize("rings", [1, 3])
def test_rows_and_dense_agree_in_values_and_gradients(
    dtype: torch.dtype, memory_format: torch.memory_format, detach_padding: bool, rings: int, padding: PaddingRule
) -> None:
    visible = draw_visible(7, 9)
    features = draw_features(6, 4, 7, 9, dtype).contiguous(memory_format=memory_format)
    slope = draw_features(6, 4, 7, 9, dtype, seed=1) * known_after(visible, rings)
    results = []
    for by_rows in (True, False):
        leaf = features.clone().requires_grad_()
        if by_rows:
            plan = planned(visible, rings, padding)
            padded = rows.pad_rows(functional.hide(leaf, visible), plan, detach_padding=detach_padding)
        else:
            options = MaskingOptions(detach_padding=detach_padding, padding=padding)
            padded = VisibleMap(visible, options).pad(leaf, rings)
        (gradient,) = torch.autograd.grad((padded * slope).sum(), leaf)
        assert padded.dtype == dtype
        results.append((padded, gradient))
    for by_rows, dense in zip(*results, strict=True):
        assert_close(by_rows, dense, TOLERANCE[dtype])


@pytest.mark.parametrize("detach_padding", [True, False])
@pytest.mark.parametrize("needs_gradient", [True, False])
def test_positions_beyond_the_last_ring_and_visible_ones_keep_every_bit(
    detach_padding: bool, needs_gradient: bool
) -> None:
    visible, features = draw_visible(9, 9), draw_features(6, 2, 9, 9, torch.float32).requires_grad_(needs_gradient)
    untouched = (~known_after(visible, 2) | visible).expand_as(features)
    before = features.detach().clone()
    padded = rows.pad_rows(features, planned(visible, 2), detach_padding=detach_padding)
    assert torch.equal(padded[untouched], before[untouched])
    assert torch.equal(features.detach(), before)
    assert padded.requires_grad is needs_gradient


@pytest.mark.parametrize("hidden_value", [1e30, float("inf"), float("nan")])
def test_hidden_values_do_not_enter_the_rings(hidden_value: float) -> None:
    visible, features = draw_visible(8, 6), draw_features(6, 2, 8, 6, torch.float32)
    plan, known = planned(visible, 3), known_after(visible, 3)
    first = rows.pad_rows(functional.hide(features, visible), plan)
    second = rows.pad_rows(torch.where(visible, features, hidden_value), plan)
    assert torch.equal(torch.where(known, first, 0), torch.where(known, second, 0))


def test_detached_rows_carry_no_gradient() -> None:
    visible, features = draw_visible(6, 5), draw_features(6, 2, 6, 5).requires_grad_()
    padded = rows.pad_rows(features, planned(visible, 3))
    filled = (known_after(visible, 3) & ~visible).expand_as(features)
    (gradient,) = torch.autograd.grad(padded[filled].sum(), features)
    assert filled.any() and torch.equal(gradient, torch.zeros_like(gradient))


def test_differentiable_rows_have_the_gradients_of_finite_differences() -> None:
    visible = draw_visible(3, 4)
    plan = planned(visible, 2)
    features = draw_features(6, 2, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: rows.pad_rows(x, plan, detach_padding=False), features)


@every_padding
@pytest.mark.parametrize("visible", [torch.ones(2, 1, 3, 3).bool(), torch.zeros(2, 1, 3, 3).bool()])
def test_with_nothing_to_fill_the_plan_is_empty_and_the_features_are_handed_back(visible: Tensor, padding: str) -> None:
    features = draw_features(2, 3, 3, 3)
    assert planned(visible, 5, padding) == []
    assert rows.pad_rows(features, planned(visible, 5, padding)) is features


def test_rows_are_positions_in_order_without_a_copy_where_these_lie_in_memory() -> None:
    features = draw_features(3, 4, 5, 2)
    as_rows = rows.to_rows(features)
    assert as_rows.shape == (30, 4)
    for b, y, x in [(0, 0, 0), (1, 3, 1), (2, 4, 0)]:
        assert torch.equal(as_rows[(b * 5 + y) * 2 + x], features[b, :, y, x])
    channels_last = features.contiguous(memory_format=torch.channels_last)
    assert rows.to_rows(channels_last).data_ptr() == channels_last.data_ptr()


def test_row_indices_are_the_true_positions_in_order() -> None:
    visible = draw_visible(5, 7)
    expected = [i for i, value in enumerate(visible.flatten().tolist()) if value]
    assert rows.row_indices(visible).tolist() == expected
