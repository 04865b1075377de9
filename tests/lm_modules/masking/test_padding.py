"""Padding, batch norms and maps of visible positions: against the reference and by hand."""

import copy
import math
from itertools import product

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from maskrobust.lm_modules.masking import Masked, VisibleMap, functional, morphology
from maskrobust.lm_modules.masking.batch_norm import (
    BatchNorm,
    explicit_batch_norm,
    fused_batch_norm,
    masked_batch_norm,
)
from maskrobust.lm_modules.masking.dispatch import ask_for_rules
from maskrobust.lm_modules.masking.morphology import PADDINGS, row_indices
from maskrobust.lm_modules.masking.visible_map import MaskingOptions
from tests.lm_modules.masking.cases import MEMORY_FORMATS, TOLERANCE, assert_close, draw_features, draw_visible
from tests.lm_modules.masking.reference import Run, Seen, fill

SIZES = [(1, 1), (1, 7), (5, 8), (9, 4), (1,), (13,), (4, 5, 3), (1, 6, 4), (2, 1, 7)]
MAX_POOLS = {axes: getattr(F, f"max_pool{axes}d") for axes in (1, 2, 3)}
every_padding = pytest.mark.parametrize("padding", ["mean", "mirror"])


def dense(features, visible, rings, *, detach_padding=True, padding="mean"):
    plan, pad = {
        "mean": (functional.neighbour_rings, functional.neighbour_padding),
        "mirror": (functional.mirrored_places, functional.mirrored_padding),
    }[padding]
    return pad(features, visible, plan(visible, rings), detach_padding=detach_padding)


def by_rows(features, visible, rings, *, detach_padding=True, padding="mean"):
    plan = PADDINGS[padding](visible, rings)
    return morphology.pad_rows(functional.hide(features, visible), plan, detach_padding=detach_padding)


def in_run(features, visible, rings, *, padding, detach_padding):
    assert detach_padding
    return morphology.pad_in_run(functional.hide(features, visible), visible, None, rings, padding)


WAYS = {"dense": dense, "rows": by_rows, "in run": in_run}


def within(visible, rings):
    """Positions that so many rings reach."""
    return MAX_POOLS[visible.ndim - 2](visible.float(), 2 * rings + 1, 1, rings) > 0


@pytest.mark.parametrize(("way", "detach_padding"), [*product(["dense", "rows"], [True, False]), ("in run", True)])
@every_padding
def test_values_and_gradients_are_those_of_the_reference_in_every_precision_and_memory_format(
    way, padding, detach_padding
):
    layouts = [(dtype, layout, 2, (7, 9)) for dtype in TOLERANCE for layout in MEMORY_FORMATS]
    sizes = [(torch.float64, torch.contiguous_format, rings, size) for rings in (1, 3, 6) for size in SIZES]
    for dtype, layout, rings, size in layouts + sizes:
        visible = draw_visible(*size)
        features = draw_features(6, 4, *size, dtype=dtype).contiguous(memory_format=layout)
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


@every_padding
def test_compilers_are_told_the_truth_about_the_padding_of_a_compiled_pass(padding):
    visible = draw_visible(7, 9)
    for layout in MEMORY_FORMATS:
        features = draw_features(6, 4, 7, 9, dtype=torch.float32).contiguous(memory_format=layout)
        torch.library.opcheck(torch.ops.maskrobust.fill_rows, (features, visible, None, 2, padding))


def test_of_two_nearest_positions_the_topmost_and_then_the_leftmost_is_mirrored_at():
    visible, features = torch.zeros(1, 1, 3, 3).bool(), torch.arange(9.0).reshape(1, 1, 3, 3)
    visible[0, 0, [0, 1, 1, 2], [1, 0, 2, 1]] = True
    padded = dense(features, visible, 1, padding="mirror")
    assert padded[0, 0].tolist() == [[1, 1, 1], [3, 1, 5], [3, 7, 5]]
    visible[0, 0, 0, 1] = False
    assert dense(features, visible, 1, padding="mirror")[0, 0, 1, 1] == 3
    assert dense(features.flip(3), visible.flip(3), 1, padding="mirror")[0, 0, 1, 1] == 5


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


@pytest.mark.parametrize("padding", ["mean", "mirror"])
def test_plans_of_several_rings_are_those_of_each_alone_and_share_the_rings_of_a_mean(padding, monkeypatch):
    visible, asked = draw_visible(9, 8), (4, 2, 6, 1)
    alone = {rings: PADDINGS[padding](visible, rings) for rings in asked}
    planned, plan = [], PADDINGS[padding]
    monkeypatch.setitem(PADDINGS, padding, lambda *args: planned.append(args[1]) or plan(*args))
    visible_map = VisibleMap(visible, MaskingOptions(padding=padding))
    for rings in asked:
        own, expected = visible_map.padding_plan(rings), alone[rings]
        assert len(own) == len(expected) > 0
        for mine, other in zip(own, expected, strict=True):
            assert vars(mine).keys() == vars(other).keys()
            assert all(torch.equal(one, vars(other)[name]) for name, one in vars(mine).items())
    assert planned == ([4, 6] if padding == "mean" else [4, 2, 6, 1])


def test_an_output_is_visible_when_its_window_holds_a_visible_position():
    for size in [(5, 8), (9, 7), (8, 8), (9,), (6, 7, 8)]:
        visible, axes = draw_visible(*size), len(size)
        for window in WINDOWS:
            kernel, stride, dilation = (((2,) + window[place])[-axes:] for place in (0, 1, 3))
            padding = (*window[2], 1, 0)[: 2 * axes]
            framed = F.pad(visible.float(), padding)
            expected = MAX_POOLS[axes](framed, kernel, stride, 0, dilation) > 0
            for propagate in (functional.propagate_visible, morphology.propagate_visible):
                assert torch.equal(propagate(visible, kernel, stride, padding, dilation), expected)


def test_gradients_of_padding_have_those_of_tensors():
    visible, plan, found = draw_visible(5, 4)[:2], PADDINGS["mean"](draw_visible(5, 4)[:2], 1), []
    for by_tensors in (True, False):
        features, weight = (
            draw_features(2, 3, 5, 4).requires_grad_(),
            draw_features(1, 3, 3, 3, seed=1).requires_grad_(),
        )
        bias = torch.zeros(3, 1, 1, dtype=torch.float64, requires_grad=True)
        shown = functional.hide(features, visible) + bias
        padded = dense(shown, visible, 1) if by_tensors else morphology.pad_rows(shown, plan)
        loss = F.conv2d(torch.where(within(visible, 1), padded, 0), weight).square().sum()
        gradients = torch.autograd.grad(loss, [features, bias], create_graph=True)
        found.append(torch.autograd.grad(sum(each.square().sum() for each in gradients), [features, bias, weight]))
    for by_rows, by_tensors in zip(*found, strict=True):
        torch.testing.assert_close(by_rows, by_tensors)


CHANNELS = 3
NORM_TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-10}
BOTH_PATHS = pytest.mark.parametrize("path", ["moments", "fused", "compiled"])


def draw_module(kind=nn.BatchNorm2d, **options):
    module = kind(CHANNELS, **options)
    generator = torch.Generator().manual_seed(3)
    for tensor in [*module.parameters(), module.running_mean, module.running_var]:
        if tensor is not None:
            tensor.data.copy_(0.5 + torch.rand(CHANNELS, generator=generator))
    return module


def normalise(path, module, features, visible):
    if module.track_running_stats:
        module.num_batches_tracked += 1
    momentum = 1.0 / float(module.num_batches_tracked) if module.momentum is None else module.momentum
    norm = BatchNorm(module.running_mean, module.running_var, module.weight, module.bias, momentum, module.eps)
    if path == "fused":
        return fused_batch_norm(norm, features, row_indices(visible), row_indices(~visible))
    if path == "compiled":
        return explicit_batch_norm(norm, features, visible)
    return masked_batch_norm(norm, features, visible)


def picked(features, visible):
    """(N, C) features at visible positions."""
    return features.permute(0, 2, 3, 1)[visible[:, 0]]


def by_hand(module, features, visible):
    """(N, C) normalised features; the copy of the module that computes them is updated."""
    tracks = module.training and module.track_running_stats
    if tracks:
        module.num_batches_tracked += 1
    momentum = 1.0 / float(module.num_batches_tracked) if module.momentum is None else module.momentum
    means = (module.running_mean, module.running_var) if module.track_running_stats else (None, None)
    return F.batch_norm(
        picked(features, visible), *means, module.weight, module.bias, training=True, momentum=momentum, eps=module.eps
    )


@BOTH_PATHS
@pytest.mark.parametrize(
    ("dtype", "memory_format"),
    [(torch.float64, torch.contiguous_format), (torch.float32, torch.channels_last)],
    ids=str,
)
@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": None}, {"momentum": 0.7, "eps": 0.1}, {"track_running_stats": False}, {"affine": False}],
    ids=str,
)
def test_outputs_statistics_and_gradients_are_those_of_the_visible_positions(path, dtype, memory_format, options):
    module = draw_module(**options).to(dtype)
    expected_module, visible = copy.deepcopy(module), draw_visible(5, 6)
    slope = draw_features(int(visible.sum()), CHANNELS, 1, 1, dtype=dtype, seed=9)[:, :, 0, 0]
    for step in range(2):
        features = 3 + draw_features(6, CHANNELS, 5, 6, dtype=dtype, seed=step).contiguous(memory_format=memory_format)
        leaf, expected_leaf = features.clone().requires_grad_(), features.clone().requires_grad_()
        normalised = normalise(path, module, leaf, visible)
        output, expected = picked(normalised, visible), by_hand(expected_module, expected_leaf, visible)
        assert (normalised.masked_select(~visible) == 0).all()
        torch.testing.assert_close(output, expected, rtol=NORM_TOLERANCE[dtype], atol=NORM_TOLERANCE[dtype])
        gradients = torch.autograd.grad((output * slope).sum(), [leaf, *module.parameters()])
        references = torch.autograd.grad((expected * slope).sum(), [expected_leaf, *expected_module.parameters()])
        for gradient, reference in zip(gradients, references, strict=True):
            torch.testing.assert_close(gradient, reference, rtol=NORM_TOLERANCE[dtype], atol=NORM_TOLERANCE[dtype])
    for name, buffer in module.named_buffers():
        torch.testing.assert_close(buffer, expected_module.get_buffer(name), rtol=1e-5, atol=1e-6)


@BOTH_PATHS
@pytest.mark.parametrize("memory_format", MEMORY_FORMATS, ids=str)
def test_a_mean_of_a_thousand_standard_deviations_costs_no_digits(path, memory_format):
    visible = torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(0)) < 0.5
    features = 1000 + draw_features(8, CHANNELS, 28, 28).mul(3**0.5).float().contiguous(memory_format=memory_format)
    slope = draw_features(int(visible.sum()), CHANNELS, 1, 1, seed=1)[:, :, 0, 0]
    leaf, exact_leaf = features.clone().requires_grad_(), features.double().requires_grad_()
    module, exact_module = draw_module(), draw_module().double()
    output, expected = normalise(path, module, leaf, visible), by_hand(exact_module, exact_leaf, visible)
    rounding = 1000 * torch.finfo(torch.float32).eps
    difference = (picked(output, visible) - expected).abs().max()
    assert difference < 2 * rounding * module.weight.max()
    (gradient,) = torch.autograd.grad((picked(output, visible) * slope).sum(), leaf)
    (exact_gradient,) = torch.autograd.grad((expected * slope).sum(), exact_leaf)
    assert (gradient - exact_gradient).abs().max() < rounding * exact_gradient.abs().max() / 3
    assert (module.running_var / exact_module.running_var - 1).abs().max() < 1e-6
    assert (module.running_mean / exact_module.running_mean - 1).abs().max() < 1e-6


@pytest.mark.parametrize("path", ["moments", "compiled"])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_running_statistics_move_by_what_has_a_variance_alone(path, count):
    module, features = draw_module(), draw_features(6, CHANNELS, 5, 6, dtype=torch.float32)
    visible = (torch.arange(6 * 5 * 6) < count).reshape(6, 1, 5, 6)
    before = [module.running_mean.clone(), module.running_var.clone()]
    output = normalise(path, module, features, visible)
    for one, other in zip((module.running_mean, module.running_var), before, strict=True):
        assert torch.equal(one, other) == (count < 2)
    if count == 1:
        torch.testing.assert_close(picked(output, visible)[0], module.bias)


@pytest.mark.parametrize("training", [True, False])
def test_processes_are_joined_in_training_mode_alone(training, monkeypatch):
    joined = []
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda _group: 1)
    monkeypatch.setattr(dist, "all_gather_into_tensor", lambda rows, own, **_: joined.append(rows.copy_(own)))
    module = draw_module(nn.SyncBatchNorm, track_running_stats=False, process_group=object()).train(training)
    ask_for_rules([module])  # as wrapping does
    module(
        Masked(draw_features(6, CHANNELS, 4, 5, dtype=torch.float32), VisibleMap(draw_visible(4, 5), MaskingOptions()))
    )
    assert len(joined) == training  # once a layer


@pytest.mark.parametrize("channels", [1, 3, 4, 5])
def test_images_are_hidden_alike_by_opencv_and_torch(channels):
    visible = draw_visible(5, 4)
    for dtype, layout in product(TOLERANCE, MEMORY_FORMATS):
        images = torch.randn(len(visible), channels, 5, 4).to(dtype, memory_format=layout)
        images[~visible.expand_as(images)] = math.nan
        found, expected = morphology.hide(images, visible), functional.hide(images, visible)
        assert torch.equal(found, expected)
        assert found.stride() == expected.stride()
        morphology.hide(images.requires_grad_(), visible).sum().backward()
        assert torch.equal(images.grad, visible.expand_as(images).to(dtype))
