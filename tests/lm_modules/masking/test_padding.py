"""Padding and maps of visible positions: dense, by rows and on accelerators, against the reference and by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from maskrobust.lm_modules.masking import VisibleMap, functional, morphology
from maskrobust.lm_modules.masking.masked import MaskingOptions, PaddingRule
from maskrobust.lm_modules.masking.morphology import PADDINGS
from tests.lm_modules.masking.cases import MEMORY_FORMATS, TOLERANCE, assert_close, draw_features, draw_visible
from tests.lm_modules.masking.reference import Run, Seen, fill

SIZES = [(1, 1), (1, 7), (5, 8), (9, 4)]
every_padding = pytest.mark.parametrize("padding", ["mean", "mirror"])


def dense(features, visible, rings, *, detach_padding=True, padding="mean"):
    return VisibleMap(visible, MaskingOptions(detach_padding=detach_padding, padding=padding)).pad(features, rings)


def by_rows(features, visible, rings, *, detach_padding=True, padding="mean"):
    plan = PADDINGS[padding](visible, rings)
    return morphology.pad_rows(functional.hide(features, visible), plan, detach_padding=detach_padding)


WAYS = {"dense": dense, "rows": by_rows}
every_way = pytest.mark.parametrize("way", WAYS)


def within(visible, rings):
    """Positions that so many rings reach."""
    return F.max_pool2d(visible.float(), 2 * rings + 1, 1, rings) > 0


@every_way
@every_padding
@pytest.mark.parametrize("detach_padding", [True, False])
def test_values_and_gradients_are_those_of_the_reference_in_every_precision_and_memory_format(
    way: str, padding: PaddingRule, detach_padding: bool
) -> None:
    layouts = [(dtype, layout, 2, (7, 9)) for dtype in TOLERANCE for layout in MEMORY_FORMATS]
    sizes = [(torch.float64, torch.contiguous_format, rings, size) for rings in (1, 3, 6) for size in SIZES]
    for dtype, layout, rings, size in layouts + sizes:
        visible = draw_visible(*size)
        features = draw_features(6, 4, *size, dtype).contiguous(memory_format=layout)
        leaf = torch.where(visible, features, math.nan).requires_grad_()
        padded = WAYS[way](leaf, visible, rings, detach_padding=detach_padding, padding=padding)
        exact = features.double().requires_grad_()
        seen = Seen(exact, visible[:, 0], Run(padding=padding, detach_padding=detach_padding))
        near = within(visible, rings)
        expected = torch.where(near, fill(seen), 0)
        assert padded.dtype == dtype
        assert torch.equal(padded[visible.expand_as(padded)], features[visible.expand_as(padded)])
        assert_close(torch.where(near, padded, 0), expected, TOLERANCE[dtype])
        slope = draw_features(6, 4, *size, seed=1)
        (torch.where(near, padded, 0).double() * slope).sum().backward()
        (expected * slope).sum().backward()
        assert_close(leaf.grad, exact.grad, TOLERANCE[dtype])


@every_way
def test_features_are_mirrored_at_the_edge_of_the_hole_as_worked_out_by_hand(way: str) -> None:
    visible = torch.tensor([[1, 1, 1, 0, 0, 0, 0, 0, 0, 1]]).bool()[None, None]
    features = torch.arange(10.0)[None, None, None]
    for rings, expected in ((1, [0, 1, 2, 1, 0, 0, 0, 0, 9, 9]), (3, [0, 1, 2, 1, 0, 2, 9, 9, 9, 9])):
        assert WAYS[way](features, visible, rings, padding="mirror").flatten().tolist() == expected


def test_of_two_nearest_positions_the_topmost_and_then_the_leftmost_is_mirrored_at():
    visible, features = torch.zeros(1, 1, 3, 3).bool(), torch.arange(9.0).reshape(1, 1, 3, 3)
    visible[0, 0, [0, 1, 1, 2], [1, 0, 2, 1]] = True
    padded = dense(features, visible, 1, padding="mirror")
    assert padded[0, 0].tolist() == [[1, 1, 1], [3, 1, 5], [3, 7, 5]]
    visible[0, 0, 0, 1] = False
    assert dense(features, visible, 1, padding="mirror")[0, 0, 1, 1] == 3
    assert dense(features.flip(3), visible.flip(3), 1, padding="mirror")[0, 0, 1, 1] == 5


@every_way
def test_two_visible_positions_spread_as_worked_out_by_hand(way: str) -> None:
    visible = torch.zeros(1, 1, 5, 5, dtype=torch.bool)
    visible[..., 2, 2:4] = True
    features = torch.full((1, 1, 5, 5), 99.0)
    features[..., 2, 2], features[..., 2, 3] = 4.0, 8.0
    one_ring = [[0, 0, 0, 0, 0], [0, 4, 6, 6, 8], [0, 4, 4, 8, 8], [0, 4, 6, 6, 8], [0, 0, 0, 0, 0]]
    assert torch.equal(WAYS[way](features, visible, 1), torch.tensor(one_ring).float()[None, None])
    border = [4, (4 + 6) / 2, (4 + 6 + 6) / 3, (6 + 6 + 8) / 3, (6 + 8) / 2]
    two_rings = [border, [4, 4, 6, 6, 8], [4, 4, 4, 8, 8], [4, 4, 6, 6, 8], border]
    for rings in (2, 3):
        torch.testing.assert_close(WAYS[way](features, visible, rings), torch.tensor(two_rings)[None, None])


@pytest.mark.parametrize("rings", [1, 3, 100])
@pytest.mark.parametrize(("height", "width"), [(3, 17), (40, 40)])
def test_the_mirrored_places_of_a_cpu_are_those_of_an_accelerator(rings, height, width, monkeypatch):
    visible = draw_visible(height, width)
    expected = functional.mirrored_places(visible, rings) + torch.arange(6)[:, None] * height * width
    for images_at_once in (6, 2):
        monkeypatch.setattr(morphology, "_IN_CACHE", images_at_once * height * width)
        places = torch.arange(visible.numel())
        for part in PADDINGS["mirror"](visible, rings):
            assert not visible.flatten()[part.rows].any() and visible.flatten()[part.neighbours].all()
            places[part.rows] = part.neighbours
        assert torch.equal(places.view(6, -1), expected)


@every_padding
@pytest.mark.parametrize("everything", [True, False])
def test_with_nothing_to_fill_the_features_are_handed_back(padding: str, everything: bool) -> None:
    features, visible = draw_features(2, 3, 3, 3), torch.full((2, 1, 3, 3), everything)
    assert PADDINGS[padding](visible, 5) == []
    assert morphology.pad_rows(features, []) is features


WINDOWS = [
    # kernel, stride, (left, right, top, bottom), dilation
    ((1, 1), (2, 2), (0, 0, 0, 0), (1, 1)),
    ((7, 7), (2, 2), (3, 3, 3, 3), (1, 1)),
    ((3, 3), (1, 1), (2, 2, 2, 2), (2, 2)),
    ((2, 2), (1, 1), (0, 1, 0, 1), (1, 1)),
    ((1, 5), (1, 2), (2, 2, 0, 0), (1, 1)),
    ((3, 2), (2, 3), (1, 0, 0, 2), (1, 3)),
    ((1, 1), (1, 1), (2, 1, 0, 3), (1, 1)),
]


def test_an_output_is_visible_when_its_window_holds_a_visible_position():
    for size in [(5, 8), (9, 7), (8, 8)]:
        visible = draw_visible(*size)
        for kernel, stride, padding, dilation in WINDOWS:
            framed = F.pad(visible.float(), padding)
            expected = F.max_pool2d(framed, kernel, stride, 0, dilation) > 0
            for propagate in (functional.propagate_visible, morphology.propagate_visible):
                assert torch.equal(propagate(visible, kernel, stride, padding, dilation), expected)


@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), [(2, 3, 1, 1), (3, 2, 1, 1), (3, 2, 0, 2)])
def test_ceil_mode_makes_the_windows_of_the_pool(kernel, stride, padding, dilation):
    pool = torch.nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=True)
    for size in range(5, 13):
        visible = draw_visible(size, 9)
        geometry = (kernel, kernel), (stride, stride), (padding,) * 4, (dilation, dilation)
        for propagate in (functional.propagate_visible, morphology.propagate_visible):
            assert torch.equal(propagate(visible, *geometry, ceil_mode=True), pool(visible.float()) > 0)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_hiding_gives_zero_and_no_gradient_whatever_was_hidden(dtype):
    visible, plain = draw_visible(4, 5), draw_features(6, 2, 4, 5, dtype)
    features = torch.where(visible, plain, math.nan).requires_grad_()
    hidden = functional.hide(features, visible)
    (gradient,) = torch.autograd.grad(hidden.sum(), features)
    assert hidden.dtype == dtype and torch.equal(hidden, torch.where(visible, plain, 0))
    assert torch.equal(gradient, visible.expand_as(gradient).to(dtype))
