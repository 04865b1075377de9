"""Masked features, and how maps of visible positions are shared."""

import copy

import pytest
import torch

from maskrobust.lm_modules.masking import (
    LayerMasking,
    Masked,
    VisibleMap,
    layer_masking,
    masked as masked_module,
    morphology,
)
from maskrobust.lm_modules.masking.masked import MaskingOptions, Window
from maskrobust.lm_modules.masking.morphology import PADDINGS
from maskrobust.lm_modules.networks.architectures import SmallResNet
from tests.lm_modules.masking.cases import draw_features, draw_visible

GEOMETRIES = [
    Window((kernel, kernel), (stride, stride), (left, right, left, right), (dilation, dilation))
    for kernel in (1, 2, 3)
    for stride in (1, 2)
    for dilation in (1, 2)
    for left in range(3)
    for right in range(3)
    if left + right + 6 > dilation * (kernel - 1)
]
UNION = MaskingOptions(merge="union")
SAME = Window((3, 3), (1, 1), (1, 1, 1, 1))


def test_plans_and_windows_of_a_map_are_computed_once():
    visible = VisibleMap(draw_visible(7, 7), MaskingOptions())
    assert len(visible.padding_rows(3)) == 3 and visible.padding_rows(3) is visible.padding_rows(3)
    assert visible.row_indices is visible.row_indices
    assert visible.window(SAME) is visible.window(SAME)
    assert visible.window(SAME) is not visible.window(SAME._replace(stride=(2, 2)))
    assert visible.window(Window((1, 1))) is visible
    assert visible.window(Window((1, 1), (2, 2))).positions.shape == (6, 1, 4, 4)
    flipped = visible.derive("flipped", lambda positions: positions.flip(3))
    assert flipped is visible.derive("flipped", lambda positions: positions.flip(2))
    assert flipped.options is visible.options


@pytest.mark.parametrize("options", [MaskingOptions(), UNION], ids=["intersection", "union"])
def test_merging_a_branch_with_its_input_is_right_for_every_window(options):
    combine = torch.logical_and if options.merge == "intersection" else torch.logical_or
    shared = 0
    for geometry in GEOMETRIES:
        start = VisibleMap(draw_visible(6, 6), options)
        middle = start.window(SAME)
        end = middle.window(geometry)
        if end.positions.shape != start.positions.shape:
            continue
        for first, second in [(start, end), (end, start), (end, middle), (start, start)]:
            merged = first.merge(second)
            assert torch.equal(merged.positions, combine(first.positions, second.positions))
            assert torch.equal(first.merge(second, intersection=False).positions, first.positions | second.positions)
            assert torch.equal(first.merge(second, intersection=True).positions, first.positions & second.positions)
            shared += merged is first or merged is second
    assert shared > len(GEOMETRIES) / 4


def test_a_stage_of_blocks_shares_one_map(monkeypatch):
    calls = []
    true_plan = PADDINGS["mean"]
    monkeypatch.setitem(PADDINGS, "mean", lambda *args: calls.append(1) or true_plan(*args))
    counts = []
    for blocks in (2, 5):
        calls.clear()
        network = LayerMasking(SmallResNet(3, width=16, blocks=blocks), engine="dense").eval()
        network(torch.zeros(2, 3, 32, 32), draw_visible(32, 32)[:2])
        counts.append(len(calls))
    assert counts[0] == counts[1] > 0


def test_what_a_pass_needed_is_planned_ahead_of_the_next(monkeypatch):
    events: list[str] = []

    def logged(module, name):
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args: events.append(name) or function(*args))

    network = LayerMasking(SmallResNet(3, width=16), engine="dense").eval()
    images, visible = draw_features(6, 3, 32, 32).float(), draw_visible(32, 32)
    first = network(images, visible)
    logged(morphology, "ring_rows"), logged(masked_module, "propagate_visible"), logged(layer_masking, "hide")
    assert torch.equal(network(images, visible), first)
    assert events[-1] == "hide" and {"ring_rows", "propagate_visible"} < set(events)
    other = images[..., :16, :], visible[..., :16, :].flip(2)
    assert torch.equal(network(*other), LayerMasking(network.network, engine="dense")(*other))


@pytest.mark.parametrize("padding", ["mean", "mirror"])
def test_a_mask_that_never_changes_is_planned_no_more_than_twice(monkeypatch, padding):
    planned: list[int] = []
    true_plan = PADDINGS[padding]
    monkeypatch.setitem(PADDINGS, padding, lambda *args: planned.append(1) or true_plan(*args))
    network = LayerMasking(SmallResNet(3, width=16), padding=padding, engine="dense").eval()
    images, visible = draw_features(2, 3, 32, 32).float(), draw_visible(32, 32)[:2]
    with torch.inference_mode():
        first, _ = network(images, visible), network(images, visible)
        planned.clear()
        assert torch.equal(network(images, visible.clone()), first) and not planned
    network(images, visible).sum().backward()
    assert planned
    visible.copy_(visible.flip(3))  # in place, and as many pixels as before
    fresh = LayerMasking(network.network, padding=padding, engine="dense")
    assert torch.equal(network(images, visible), fresh(images, visible))
    assert torch.equal(copy.deepcopy(network)(images, visible), fresh(images, visible))


@pytest.mark.parametrize("shape", [(6, 4, 5, 6), (5, 4, 5, 7), (6, 5, 7, 4), (6, 7)])
def test_features_that_are_no_map_of_the_positions_are_refused(shape):
    with pytest.raises(NotImplementedError, match="5 x 7 positions") as refusal:
        Masked(torch.zeros(shape), VisibleMap(draw_visible(5, 7), MaskingOptions()))
    assert str(shape) in str(refusal.value)
