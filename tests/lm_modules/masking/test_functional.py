"""The tensor functions, against loops over positions and as properties for any input."""

import numpy as np
import pytest
import torch
from torch import Tensor

from maskrobust.lm_modules.masking import VisibleMap, functional, morphology
from maskrobust.lm_modules.masking.masked import MaskingOptions, PaddingRule
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

every_size = pytest.mark.parametrize(("height", "width"), SIZES)
every_dtype = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
every_format = pytest.mark.parametrize("memory_format", MEMORY_FORMATS, ids=str)
NAN = torch.tensor(float("nan"))


every_padding = pytest.mark.parametrize("padding", ["mean", "mirror"])


def pad(
    features: Tensor, visible: Tensor, rings: int, *, detach_padding: bool = True, padding: PaddingRule = "mean"
) -> Tensor:
    return VisibleMap(visible, MaskingOptions(detach_padding=detach_padding, padding=padding)).pad(features, rings)


@every_size
@every_padding
@pytest.mark.parametrize("rings", range(1, 7))
def test_padding_is_that_of_the_loops(height: int, width: int, rings: int, padding: PaddingRule) -> None:
    visible, features = draw_visible(height, width), draw_features(6, 3, height, width)
    expected, _ = reference.PADDINGS[padding](exact(features), visible[:, 0].numpy(), rings)
    assert_close(pad(features, visible, rings, padding=padding), expected, TOLERANCE[torch.float64])


@every_dtype
@every_format
@every_padding
@pytest.mark.parametrize("detach_padding", [True, False])
def test_padding_in_every_precision_and_memory_format(
    dtype: torch.dtype, memory_format: torch.memory_format, padding: PaddingRule, detach_padding: bool
) -> None:
    visible = draw_visible(7, 9)
    features = draw_features(6, 4, 7, 9, dtype).contiguous(memory_format=memory_format)
    expected, _ = reference.PADDINGS[padding](exact(features), visible[:, 0].numpy(), 2)
    padded = pad(features, visible, 2, detach_padding=detach_padding, padding=padding)
    assert padded.dtype == dtype
    assert padding == "mean" or padded.is_contiguous(memory_format=memory_format)
    assert_close(padded, expected, TOLERANCE[dtype])


def test_features_are_mirrored_at_the_edge_of_the_hole_as_worked_out_by_hand() -> None:
    visible = torch.tensor([[1, 1, 1, 0, 0, 0, 0, 0, 0, 1]]).bool()[None, None]
    features = torch.arange(10.0)[None, None, None]
    one_ring, three_rings = [0, 1, 2, 1, 0, 0, 0, 0, 9, 9], [0, 1, 2, 1, 0, 2, 9, 9, 9, 9]
    assert pad(features, visible, 1, padding="mirror").flatten().tolist() == one_ring
    assert pad(features, visible, 3, padding="mirror").flatten().tolist() == three_rings


def test_of_two_nearest_positions_the_topmost_and_then_the_leftmost_is_mirrored_at() -> None:
    visible, features = torch.zeros(1, 1, 3, 3).bool(), torch.arange(9.0).reshape(1, 1, 3, 3)
    visible[0, 0, [0, 1, 1, 2], [1, 0, 2, 1]] = True
    padded = pad(features, visible, 1, padding="mirror")
    assert padded[0, 0].tolist() == [[1, 1, 1], [3, 1, 5], [3, 7, 5]]
    visible[0, 0, 0, 1] = False
    assert pad(features, visible, 1, padding="mirror")[0, 0, 1, 1] == 3
    flipped = pad(features.flip(3), visible.flip(3), 1, padding="mirror")
    assert flipped[0, 0, 1, 1] == 5


@pytest.mark.parametrize("rings", [1, 2, 3, 6, 9, 100])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 17), (13, 9), (40, 40)])
def test_the_plan_of_a_cpu_is_that_of_an_accelerator(rings: int, height: int, width: int, monkeypatch) -> None:
    visible = draw_visible(height, width)
    in_image = functional.mirrored_places(visible, rings)
    expected = in_image + torch.arange(6)[:, None] * height * width
    for images_at_once in (6, 2):
        monkeypatch.setattr(morphology, "_IN_CACHE", images_at_once * height * width)
        places = torch.arange(visible.numel())
        for part in morphology.PADDINGS["mirror"](visible, rings):
            assert not visible.flatten()[part.rows].any() and visible.flatten()[part.neighbours].all()
            places[part.rows] = part.neighbours
        assert torch.equal(places.view(6, -1), expected)


def test_two_visible_positions_spread_as_worked_out_by_hand() -> None:
    visible = torch.zeros(1, 1, 5, 5, dtype=torch.bool)
    visible[..., 2, 2:4] = True
    features = torch.full((1, 1, 5, 5), 99.0)
    features[..., 2, 2], features[..., 2, 3] = 4.0, 8.0
    one_ring = [[0, 0, 0, 0, 0], [0, 4, 6, 6, 8], [0, 4, 4, 8, 8], [0, 4, 6, 6, 8], [0, 0, 0, 0, 0]]
    assert torch.equal(pad(features, visible, 1), torch.tensor(one_ring).float()[None, None])
    border = [4, (4 + 6) / 2, (4 + 6 + 6) / 3, (6 + 6 + 8) / 3, (6 + 8) / 2]
    two_rings = [border, [4, 4, 6, 6, 8], [4, 4, 4, 8, 8], [4, 4, 6, 6, 8], border]
    torch.testing.assert_close(pad(features, visible, 2), torch.tensor(two_rings)[None, None])
    assert torch.equal(pad(features, visible, 3), pad(features, visible, 2))


def test_the_plan_of_two_visible_positions_counts_their_neighbours() -> None:
    visible = torch.zeros(1, 1, 5, 5, dtype=torch.bool)
    visible[..., 2, 2:4] = True
    (first, known), (second, _) = functional.neighbour_rings(visible, 2)
    counts = [[0, 0, 0, 0, 0], [0, 1, 2, 2, 1], [0, 1, 0, 0, 1], [0, 1, 2, 2, 1], [0, 0, 0, 0, 0]]
    expected = torch.tensor(counts)[None, None]
    assert torch.equal(first, expected > 0)
    assert torch.equal(known[first], expected[first].float()) and (known >= 1).all()
    assert torch.equal(second, ~(first | visible))


@every_dtype
@every_padding
def test_visible_positions_are_kept_bit_for_bit_and_hidden_ones_are_never_read(
    dtype: torch.dtype, padding: PaddingRule
) -> None:
    visible, features = draw_visible(6, 7), draw_features(6, 2, 6, 7, dtype)
    padded = pad(features, visible, 3, padding=padding)
    assert torch.equal(torch.where(visible, padded, 0), torch.where(visible, features, 0))
    assert torch.equal(pad(torch.where(visible, features, NAN.to(dtype)), visible, 3, padding=padding), padded)


@every_dtype
def test_a_constant_stays_constant_wherever_it_is_filled(dtype: torch.dtype) -> None:
    visible = draw_visible(8, 5)
    padded = pad(torch.full((6, 2, 8, 5), -1.5, dtype=dtype), visible, 4)
    _, known = reference.neighbour_padding(np.zeros((6, 1, 8, 5)), visible[:, 0].numpy(), 4)
    expected = np.where(known[:, None], -1.5, 0.0).repeat(2, axis=1)
    assert_close(padded, expected, TOLERANCE[dtype])


def test_filled_values_stay_between_the_least_and_the_greatest_visible_value() -> None:
    visible, features = draw_visible(9, 9), draw_features(6, 1, 9, 9)
    padded = pad(features, visible, 8)
    for sample in (0, 1, 2, 5):
        seen = features[sample][visible[sample]]
        assert seen.min() - 1e-6 <= padded[sample].min() and padded[sample].max() <= seen.max() + 1e-6


@every_padding
def test_detached_padding_gives_filled_values_no_gradient(padding: PaddingRule) -> None:
    visible, features = draw_visible(6, 5), draw_features(6, 2, 6, 5).requires_grad_()
    padded = pad(features, visible, 3, padding=padding)
    (gradient,) = torch.autograd.grad((padded * padded.detach()).sum(), features)
    assert torch.equal(gradient, torch.where(visible, features, 0).detach())


@every_padding
@pytest.mark.parametrize("detach_padding", [True, False])
def test_gradients_are_those_of_finite_differences(detach_padding: bool, padding: PaddingRule) -> None:
    visible = draw_visible(3, 4)
    fixed = pad(draw_features(6, 1, 3, 4), visible, 2)

    def padded(features: Tensor) -> Tensor:
        result = pad(features, visible, 2, detach_padding=detach_padding, padding=padding)
        return torch.where(visible, result, fixed) if detach_padding else result

    assert torch.autograd.gradcheck(padded, draw_features(6, 1, 3, 4).requires_grad_())


@every_padding
def test_differentiable_padding_hands_every_gradient_to_visible_positions(padding: PaddingRule) -> None:
    visible, features = draw_visible(6, 5), draw_features(6, 1, 6, 5).requires_grad_()
    padded = pad(features, visible, 8, detach_padding=False, padding=padding)
    (gradient,) = torch.autograd.grad(padded.sum(), features)
    assert torch.equal(gradient[~visible], torch.zeros_like(gradient[~visible]))
    filled = torch.tensor([30, 30, 30, 0, 30, 30], dtype=torch.float64)
    torch.testing.assert_close(gradient.sum(dim=(1, 2, 3)), filled, rtol=1e-6, atol=0)


WINDOWS = [
    # kernel, stride, (left, right, top, bottom), dilation
    ((1, 1), (1, 1), (0, 0, 0, 0), (1, 1)),
    ((1, 1), (2, 2), (0, 0, 0, 0), (1, 1)),
    ((3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
    ((3, 3), (2, 2), (1, 1, 1, 1), (1, 1)),
    ((7, 7), (2, 2), (3, 3, 3, 3), (1, 1)),
    ((3, 3), (1, 1), (2, 2, 2, 2), (2, 2)),
    ((2, 2), (1, 1), (0, 1, 0, 1), (1, 1)),
    ((2, 2), (2, 2), (0, 0, 0, 0), (1, 1)),
    ((1, 5), (1, 2), (2, 2, 0, 0), (1, 1)),
    ((3, 2), (2, 3), (1, 0, 0, 2), (1, 3)),
    ((1, 1), (1, 1), (2, 1, 0, 3), (1, 1)),
]


@pytest.mark.parametrize(("height", "width"), [(5, 8), (9, 7), (8, 8)])
@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), WINDOWS)
def test_an_output_is_visible_when_its_window_holds_a_visible_position(
    height: int, width: int, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, ...], dilation
) -> None:
    visible = draw_visible(height, width)
    left, right, top, bottom = padding
    expected = reference.propagate(visible[:, 0].numpy(), kernel, stride, ((top, bottom), (left, right)), dilation)
    for propagate in (functional.propagate_visible, morphology.propagate_visible):
        propagated = propagate(visible, kernel, stride, padding, dilation)
        assert propagated.dtype == torch.bool
        assert np.array_equal(propagated[:, 0].numpy(), expected)


@pytest.mark.parametrize("size", range(5, 13))
@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), [(2, 3, 1, 1), (3, 2, 1, 1), (3, 2, 0, 2)])
def test_ceil_mode_makes_the_windows_of_the_pool(
    size: int, kernel: int, stride: int, padding: int, dilation: int
) -> None:
    visible = draw_visible(size, 9)
    arguments = (kernel, kernel), (stride, stride), (padding,) * 4, (dilation, dilation)
    both = ((padding, padding), (padding, padding))
    expected = reference.propagate(
        visible[:, 0].numpy(), arguments[0], arguments[1], both, arguments[3], ceil_mode=True
    )
    pooled = torch.nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=True)(visible.float())
    for propagate in (functional.propagate_visible, morphology.propagate_visible):
        propagated = propagate(visible, *arguments, ceil_mode=True)
        assert np.array_equal(propagated[:, 0].numpy(), expected)
        assert propagated.shape == pooled.shape


@every_dtype
@every_format
@every_size
def test_moments_are_those_of_visible_positions(
    dtype: torch.dtype, memory_format: torch.memory_format, height: int, width: int
) -> None:
    visible = draw_visible(height, width)
    features = (10 + draw_features(6, 4, height, width, dtype)).contiguous(memory_format=memory_format)
    mean, variance, count = functional.visible_moments(torch.where(visible, features, NAN.to(dtype)), visible)
    values = reference.visible_values(exact(features), visible[:, 0].numpy())
    assert mean.dtype == variance.dtype == count.dtype == torch.promote_types(dtype, torch.float32)
    assert float(count) == len(values)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    assert_close(mean, values.mean(axis=0), tolerance)
    assert_close(variance, values.var(axis=0), tolerance)


def test_the_moments_of_nothing_are_zero() -> None:
    mean, variance, count = functional.visible_moments(torch.ones(2, 3, 4, 4), torch.zeros(2, 1, 4, 4).bool())
    assert torch.equal(mean, torch.zeros(3)) and torch.equal(variance, torch.zeros(3)) and float(count) == 0


def test_moments_have_the_gradients_of_finite_differences() -> None:
    visible = draw_visible(3, 3)
    features = draw_features(6, 2, 3, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: functional.visible_moments(x, visible)[:2], features)


@every_dtype
def test_hiding_gives_zero_and_no_gradient_whatever_was_hidden(dtype: torch.dtype) -> None:
    visible = draw_visible(4, 5)
    features = torch.where(visible, draw_features(6, 2, 4, 5, dtype), NAN.to(dtype)).requires_grad_()
    hidden = functional.hide(features, visible)
    (gradient,) = torch.autograd.grad(hidden.sum(), features)
    assert hidden.dtype == dtype
    assert torch.equal(hidden, torch.where(visible, features, 0).detach())
    assert torch.equal(gradient, visible.expand_as(gradient).to(dtype))
