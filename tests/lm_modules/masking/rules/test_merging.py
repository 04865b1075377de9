"""Sums, products and concatenation of branches with masks of their own."""

import operator
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maskrobust.lm_modules.masking import UnsupportedNetworkError
from maskrobust.lm_modules.masking.masked import MaskingOptions
from tests.lm_modules.masking import reference
from tests.lm_modules.masking.cases import (
    UNION,
    Function,
    assert_agrees,
    assert_differentiable,
    draw_features,
    draw_visible,
    exact,
    masked,
    masked_forward,
)

both_rules = pytest.mark.parametrize("options", [MaskingOptions(), UNION], ids=["intersection", "union"])


class Branches(nn.Module):
    """Two branches with different masks: a 3x3 convolution, and the features as they are."""

    def __init__(self, merge: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.merge = nn.Conv2d(4, 4, 3, padding=1, dtype=torch.float64), merge

    def forward(self, x: Tensor) -> Tensor:
        return self.merge(self.conv(x), x)


def branches_of(module: Branches, features: Tensor, visible: Tensor) -> list[tuple]:
    shown = exact(features), visible[:, 0].numpy()
    padding = ((1, 1), (1, 1))
    branch = reference.convolution(*shown, exact(module.conv.weight), exact(module.conv.bias), padding=padding)
    return [branch, shown]


SUMS = {
    "add": operator.add,
    "iadd": operator.iadd,
    "method": lambda left, right: left.add_(right),
    "torch.add": lambda left, right: torch.add(input=left, other=right),
    "sub": operator.sub,
    "isub": operator.isub,
    "torch.sub": torch.sub,
}


@both_rules
@pytest.mark.parametrize("name", SUMS)
def test_a_residual_sum_is_visible_where_the_merge_rule_says(name: str, options: MaskingOptions) -> None:
    module, features, visible = Branches(SUMS[name]), draw_features(6, 4, 7, 6), draw_visible(7, 6)
    (left, left_seen), (right, right_seen) = branches_of(module, features, visible)
    seen = left_seen | right_seen if options is UNION else left_seen & right_seen
    sign = -1 if "sub" in name else 1
    expected = reference.hide(left, left_seen) + sign * reference.hide(right, right_seen)
    assert_agrees(masked_forward(module, masked(features, visible, options)), (expected, seen))


PRODUCTS = {
    "mul": (operator.mul, lambda left, right: left * right),
    "imul": (operator.imul, lambda left, right: left * right),
    "div": (lambda a, b: torch.div(a, b.abs() + 1), lambda left, right: left / (abs(right) + 1)),
    "maximum": (torch.maximum, lambda left, right: left * (left > right) + right * (left <= right)),
    "minimum": (lambda a, b: a.minimum(b), lambda left, right: left * (left < right) + right * (left >= right)),
    "lerp": (lambda a, b: torch.lerp(a, b, 0.25), lambda left, right: 0.75 * left + 0.25 * right),
    "addcmul": (lambda a, b: torch.addcmul(a, a, b, value=2), lambda left, right: left + 2 * left * right),
}


@both_rules
@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_is_known_where_both_branches_are(name: str, options: MaskingOptions) -> None:
    merge, expected = PRODUCTS[name]
    module, features, visible = Branches(merge), draw_features(6, 4, 7, 6), draw_visible(7, 6)
    (left, left_seen), (right, right_seen) = branches_of(module, features, visible)
    result = masked_forward(module, masked(features, visible, options))
    assert_agrees(result, (expected(left, right), left_seen & right_seen))


@both_rules
@pytest.mark.parametrize("concatenate", [torch.cat, torch.concat, torch.concatenate])
@pytest.mark.parametrize("axis", [{"dim": 1}, {"dim": -3}, {"axis": 1}], ids=str)
def test_concatenated_branches_are_visible_where_any_is_and_zero_where_hidden(
    concatenate, axis: dict, options: MaskingOptions
) -> None:
    module = Branches(lambda a, b: concatenate([a, b, a], **axis))
    features, visible = draw_features(6, 4, 7, 6), draw_visible(7, 6)
    (left, left_seen), (right, right_seen) = branches_of(module, features, visible)
    shown = [reference.hide(left, left_seen), reference.hide(right, right_seen)]
    expected = torch.cat([torch.from_numpy(branch) for branch in (*shown, shown[0])], dim=1).numpy()
    assert_agrees(masked_forward(module, masked(features, visible, options)), (expected, left_seen | right_seen))


def test_branches_may_be_stacked_and_reduced_again() -> None:
    module = Branches(lambda a, b: torch.stack([a, b], dim=1).sum(dim=1))
    features, visible = draw_features(6, 4, 7, 6), draw_visible(7, 6)
    (left, left_seen), (right, right_seen) = branches_of(module, features, visible)
    expected = reference.hide(left, left_seen) + reference.hide(right, right_seen)
    assert_agrees(masked_forward(module, masked(features, visible)), (expected, left_seen | right_seen))


@both_rules
def test_branches_stacked_along_the_first_axis_to_be_summed_are_a_residual_sum(options: MaskingOptions) -> None:
    module = Branches(lambda a, b: torch.stack([a, b, b]).sum(dim=0))
    features, visible = draw_features(6, 4, 7, 6), draw_visible(7, 6)
    (left, left_seen), (right, right_seen) = branches_of(module, features, visible)
    expected = reference.hide(left, left_seen) + 2 * reference.hide(right, right_seen)
    seen = left_seen | right_seen if options is UNION else left_seen & right_seen
    assert_agrees(masked_forward(module, masked(features, visible, options)), (expected, seen))


def test_a_plain_branch_is_known_everywhere_and_shows_no_position() -> None:
    plain, x = draw_features(6, 2, 7, 6, seed=1), masked(draw_features(6, 4, 7, 6), draw_visible(7, 6))
    result = masked_forward(Function(lambda x: torch.cat([x, plain], dim=1)), x)
    seen = x.visible.positions[:, 0].numpy()
    assert_agrees(result, (torch.cat([x.features, plain], dim=1).numpy(), seen))


@both_rules
def test_numbers_and_plain_tensors_go_to_every_position(options: MaskingOptions) -> None:
    plain = draw_features(1, 4, 1, 1, seed=1)
    module = Function(lambda x: (plain - x) * plain + x / 2 - 1 + (3 - x))
    features, visible = draw_features(6, 4, 5, 6), draw_visible(5, 6)
    expected = exact((plain - features) * plain + features / 2 - 1 + (3 - features)), visible[:, 0].numpy()
    assert_agrees(masked_forward(module, masked(features, visible, options)), expected)


class SqueezeExcitation(nn.Module):
    """A gate for each channel, from a global mean."""

    def __init__(self, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.pool, self.fc = pool, nn.Conv2d(4, 4, 1, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc(self.pool(x)).sigmoid()


@pytest.mark.parametrize(
    "pool",
    [nn.AdaptiveAvgPool2d(1), lambda x: x.mean((2, 3), keepdim=True), lambda x: F.adaptive_avg_pool2d(x, 1)],
    ids=["module", "mean", "functional"],
)
def test_a_gate_reads_the_mean_over_visible_positions(pool) -> None:
    module, features, visible = SqueezeExcitation(pool), draw_features(6, 4, 5, 6), draw_visible(5, 6)
    seen = visible[:, 0].numpy()
    squeezed = torch.from_numpy(reference.masked_mean(exact(features), seen))[:, :, None, None]
    expected = exact(features * module.fc(squeezed).sigmoid()), seen
    assert_agrees(masked_forward(module, masked(features, visible)), expected)
    assert_differentiable(module, 4)


@pytest.mark.parametrize(
    ("merge", "named"),
    [
        (lambda a, b: torch.cat([a, b], dim=2), "axis 2"),
        (lambda a, b: torch.cat([a, b], dim=0), "axis 0"),
        (lambda a, b: torch.stack([a, b], dim=0), "axis 0 to sum them"),
        (lambda a, b: torch.stack([a, b], dim=0).sum(1), "axis 0 to sum them"),
        (lambda a, b: torch.stack([a, b, torch.ones(6, 4, 7, 6)], dim=1), "masked features"),
        (lambda a, b: a + b.permute(0, 2, 3, 1), "order of axes"),
    ],
)
def test_what_is_no_merge_of_channels_is_refused(merge, named: str) -> None:
    x = masked(draw_features(6, 4, 7, 6), draw_visible(7, 6))
    with pytest.raises(UnsupportedNetworkError, match=named) as refusal:
        masked_forward(Branches(merge), x)
    assert "masking_rule" in str(refusal.value) and "'0'" in str(refusal.value)
