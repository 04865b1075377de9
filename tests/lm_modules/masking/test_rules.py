"""The rules one by one: convolutions of any geometry, pools, sums; and how maps of visible positions are shared."""

import operator
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lm_modules import LayerMasking, SmallResNet
from lm_modules.masking import Masked, VisibleMap, masking_rule, rows, rules
from lm_modules.masking.masked import MaskingOptions
from tests.lm_modules.masking import reference
from tests.lm_modules.masking.cases import draw_features, draw_visible, exact

UNION = MaskingOptions(merge="union")


@pytest.fixture
def restored_rules() -> Iterator[None]:
    before = dict(rules.RULES)
    yield
    rules.RULES.clear()
    rules.RULES.update(before)


def masked(features: Tensor, visible: Tensor, options: MaskingOptions | None = None) -> Masked:
    return Masked(features, VisibleMap(visible, options or MaskingOptions()))


def window_map(module: nn.Module, visible: Tensor) -> Tensor:
    """Where a window sees a visible position: the same convolution with all weights 1 counts them."""
    counter = nn.Conv2d(
        1, 1, module.kernel_size, module.stride, module.padding, module.dilation, bias=False, dtype=torch.float64
    )
    nn.init.ones_(counter.weight)
    return counter(visible.double()) > 0.5


@pytest.mark.parametrize(
    "geometry",
    [
        {"kernel_size": 1},
        {"kernel_size": 1, "stride": 2},
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "padding": 1, "stride": 2, "groups": 2},
        {"kernel_size": 7, "padding": 3, "stride": 2},
        {"kernel_size": 3, "padding": 2, "dilation": 2},
        {"kernel_size": (3, 1), "padding": (2, 0), "stride": (1, 2)},
        {"kernel_size": (1, 5), "padding": "same"},
        {"kernel_size": 4, "padding": "same"},
        {"kernel_size": 2, "padding": "same", "dilation": 3},
        {"kernel_size": 3, "padding": "valid"},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_a_convolution_sees_filled_neighbours_and_marks_what_it_sees(geometry: dict) -> None:
    module = nn.Conv2d(2, 4, **geometry, dtype=torch.float64)
    features, visible = draw_features(6, 2, 9, 8), draw_visible(9, 8)
    result = rules.convolution(module, masked(torch.where(visible, features, 7.0), visible))
    filled, _ = reference.neighbour_padding(exact(features), visible[:, 0].numpy(), rings=9)
    seen = result.visible.positions
    assert torch.equal(seen, window_map(module, visible))
    expected = torch.where(seen, module(torch.from_numpy(filled)), 0)
    torch.testing.assert_close(torch.where(seen, result.features, 0), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("options", [{"stride": 2, "padding": 1}, {"stride": 3, "ceil_mode": True}, {"dilation": 2}])
def test_a_max_pool_takes_hidden_positions_for_zero(options: dict) -> None:
    features, visible = draw_features(6, 2, 9, 8), draw_visible(9, 8)
    module = nn.MaxPool2d(3, **options)
    result = rules.max_pool(module, masked(features, visible))
    assert torch.equal(result.features, module(torch.where(visible, features, 0)))
    assert torch.equal(result.visible.positions, module(visible.double()) > 0)
    assert result.features.shape[2:] == result.visible.positions.shape[2:]


@pytest.mark.parametrize("operation", [operator.add, torch.add])
@pytest.mark.parametrize("options", [MaskingOptions(), UNION], ids=["intersection", "union"])
def test_a_residual_sum_is_visible_where_the_merge_rule_says(operation, options: MaskingOptions) -> None:
    first, second = draw_features(6, 2, 5, 6), draw_features(6, 2, 5, 6, seed=1)
    seen, also_seen = draw_visible(5, 6), draw_visible(5, 6).flip(0)
    left = masked(torch.where(seen, first, 9.0), seen, options)
    result = rules.add(operation, left, masked(torch.where(also_seen, second, 9.0), also_seen, options))
    visible = seen | also_seen if options is UNION else seen & also_seen
    expected = torch.where(seen, first, 0) + torch.where(also_seen, second, 0)
    assert torch.equal(result.visible.positions, visible)
    assert torch.equal(torch.where(visible, result.features, 0), torch.where(visible, expected, 0))


def test_a_number_or_a_plain_tensor_is_added_position_by_position() -> None:
    x = masked(draw_features(6, 2, 5, 6), draw_visible(5, 6))
    bias = draw_features(1, 2, 1, 1, seed=3)
    for result, expected in [
        (rules.add(operator.add, x, 2.0), x.features + 2.0),
        (rules.add(operator.add, bias, x), x.features + bias),
        (rules.add(torch.add, x, x, alpha=3), 4 * x.features),
    ]:
        torch.testing.assert_close(result.features, expected)
        assert result.visible is x.visible


@pytest.mark.parametrize("operation", [nn.ReLU(), nn.SiLU(), F.relu, torch.sigmoid])
def test_activations_keep_the_map(operation) -> None:
    x = masked(draw_features(6, 2, 5, 6), draw_visible(5, 6))
    result = rules.elementwise(operation, x)
    assert torch.equal(result.features, operation(x.features)) and result.visible is x.visible


@pytest.mark.parametrize("size", [1, (1, 1), [1, 1]])
def test_global_pooling_is_the_masked_mean_and_ends_masking(size) -> None:
    features, visible = draw_features(6, 2, 5, 6), draw_visible(5, 6)
    pooled = rules.global_average_pool(nn.AdaptiveAvgPool2d(size), masked(features, visible))
    expected = reference.masked_mean(exact(features), visible[:, 0].numpy())
    torch.testing.assert_close(pooled[:, :, 0, 0], torch.from_numpy(expected))
    assert rules.find_rule(nn.AdaptiveAvgPool2d).ends_masking(nn.AdaptiveAvgPool2d(size))


def test_a_subclass_takes_the_rule_of_the_class_whose_forward_it_keeps() -> None:
    class Renamed(nn.ReLU6):
        pass

    class Doubled(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    assert rules.find_rule(Renamed) is rules.find_rule(nn.ReLU6)
    assert rules.find_rule(Doubled) is None
    assert rules.find_rule(nn.Linear) is None and rules.find_rule("no_such_method") is None


@pytest.mark.usefixtures("restored_rules")
def test_the_latest_rule_and_the_nearest_class_win() -> None:
    class Own(nn.ReLU):
        pass

    @masking_rule(Own, "own_method", ends_masking=True)
    def own(operation, x):
        return operation(x.features)

    assert rules.find_rule(Own).apply is rules.find_rule("own_method").apply is own
    assert rules.find_rule(nn.ReLU).apply is rules.elementwise
    assert rules.find_rule(Own).ends_masking(Own())
    masking_rule(Own)(rules.elementwise)
    assert rules.find_rule(Own).apply is rules.elementwise
    assert not rules.find_rule(Own).ends_masking(Own())


def test_plans_and_windows_of_a_map_are_computed_once() -> None:
    visible = VisibleMap(draw_visible(7, 7), MaskingOptions())
    geometry = (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)
    assert visible.rings(2) is visible.rings(2)
    assert visible.ring_rows(2) is visible.ring_rows(2)
    assert visible.ring_rows(2) is not visible.ring_rows(3)
    assert visible.row_indices is visible.row_indices
    assert visible.window(*geometry) is visible.window(*geometry)
    assert visible.window(*geometry) is not visible.window((3, 3), (2, 2), (1, 1, 1, 1), (1, 1))
    assert visible.window((1, 1), (1, 1), (0, 0, 0, 0), (1, 1)) is visible
    assert visible.window((1, 1), (2, 2), (0, 0, 0, 0), (1, 1)).positions.shape == (6, 1, 4, 4)


GEOMETRIES = [
    ((kernel, kernel), (stride, stride), (left, right, left, right), (dilation, dilation))
    for kernel in (1, 2, 3, 5)
    for stride in (1, 2)
    for dilation in (1, 2)
    for left in range(4)
    for right in range(4)
    if left + right + 6 > dilation * (kernel - 1)
]


@pytest.mark.parametrize("options", [MaskingOptions(), UNION], ids=["intersection", "union"])
def test_merging_a_branch_with_its_input_is_right_for_every_window(options: MaskingOptions) -> None:
    combine = torch.logical_and if options.merge == "intersection" else torch.logical_or
    shared = 0
    for geometry in GEOMETRIES:
        start = VisibleMap(draw_visible(6, 6), options)
        middle = start.window((3, 3), (1, 1), (1, 1, 1, 1), (1, 1))
        end = middle.window(*geometry)
        if end.positions.shape != start.positions.shape:
            continue
        for first, second in [(start, end), (end, start), (end, middle), (start, start)]:
            merged = first.merge(second)
            assert torch.equal(merged.positions, combine(first.positions, second.positions))
            shared += merged is first or merged is second
    assert shared > len(GEOMETRIES) / 4


def test_a_stage_of_blocks_shares_one_map(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    true_dilation = rows.dilate_3x3
    monkeypatch.setattr(rows, "dilate_3x3", lambda positions: calls.append(1) or true_dilation(positions))
    counts = []
    for blocks in (2, 5):
        calls.clear()
        LayerMasking(SmallResNet(3, width=16, blocks=blocks)).eval()(
            torch.zeros(2, 3, 32, 32), draw_visible(32, 32)[:2]
        )
        counts.append(len(calls))
    assert counts[0] == counts[1] > 0
