"""The rule table: which rule an operation has."""

from collections.abc import Iterator
from typing import Any

import pytest
from timm.layers import DropPath
from torch import Tensor, nn
from torchvision.ops import StochasticDepth, stochastic_depth

from maskrobust.lm_modules.masking import LayerMasking, UnsupportedNetworkError, masking_rule
from maskrobust.lm_modules.masking.rules.pointwise import elementwise
from maskrobust.lm_modules.masking.rules.table import RULES, find_rule


@pytest.fixture(autouse=True)
def restored_rules() -> Iterator[None]:
    before = dict(RULES)
    yield
    RULES.clear()
    RULES.update(before)


def test_a_subclass_takes_the_rule_of_the_class_whose_forward_it_keeps() -> None:
    class Renamed(nn.ReLU6):
        pass

    class Doubled(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    assert find_rule(Renamed) is find_rule(nn.ReLU6)
    assert find_rule(Doubled) is None
    assert find_rule(nn.Bilinear) is None and find_rule("no_such_method") is None


def test_the_latest_rule_and_the_nearest_class_win() -> None:
    class Own(nn.ReLU):
        pass

    @masking_rule(Own, "own_method", ends_masking=True)
    def own(operation, x):
        return operation(x.features)

    assert find_rule(Own).apply is find_rule("own_method").apply is own
    assert find_rule(nn.ReLU).apply is elementwise
    assert find_rule(Own).ends_masking(Own())
    masking_rule(Own)(elementwise)
    assert find_rule(Own).apply is elementwise
    assert not find_rule(Own).ends_masking(Own())


def test_a_check_refuses_an_operation_when_the_network_is_wrapped() -> None:
    class Scaled(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, x: Tensor) -> Tensor:
            return x * self.factor

    def check_factor(operation, _x):
        if operation.factor == 0:
            raise NotImplementedError("the factor must not be 0; choose another.")

    masking_rule(Scaled, check=check_factor)(elementwise)

    def network(factor: float) -> nn.Module:
        return nn.Sequential(Scaled(factor), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))

    LayerMasking(network(2.0))
    with pytest.raises(UnsupportedNetworkError, match="at layer '0' of Sequential, the factor must not be 0"):
        LayerMasking(network(0.0))


@pytest.mark.parametrize(
    ("layer", "target"), [(StochasticDepth(0.5, "row"), stochastic_depth), (DropPath(0.5), DropPath)]
)
def test_a_table_that_is_put_back_to_what_it_was_gets_the_rules_of_other_libraries_again(
    layer: nn.Module, target: Any
) -> None:
    network = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    LayerMasking(network)
    del RULES[target]
    LayerMasking(network)
    assert find_rule(target).apply is elementwise

    @masking_rule(target)
    def own(operation, x, *_args):
        return x

    LayerMasking(network)
    assert find_rule(target).apply is own
