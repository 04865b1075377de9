"""The plan of a network, against one worked out by hand."""

import pytest
import torch
from torch import nn

from maskrobust.lm_modules.masking import LayerMasking
from maskrobust.lm_modules.masking.layer_masking import PlanRow

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")


class Tiny(nn.Module):
    """A window of three, a pool, a block with a shortcut, and a global pool."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.trunk = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2, 2))
        self.block = nn.Conv2d(2, 2, 2, padding="same")
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(2, 3)

    def forward(self, x):
        x = self.trunk(self.conv(x))
        first, second = (x + self.block(x)).chunk(2, 1)
        return self.fc(self.pool(torch.cat([first, second], 1)).flatten(1))


def corner_of_one_of_two():
    visible = torch.zeros(2, 1, 8, 6, dtype=torch.bool)
    visible[0, 0, 4, 4] = True
    return visible


EXPECTED = [
    # The pixel at (4, 4) is seen from rows 3-5 and columns 3-5: 9 of 48 positions, in one image of two.
    PlanRow("conv", "Conv2d", "convolution", 8, 6, 2, 9 / 96),
    PlanRow("trunk.0", "ReLU", "elementwise", 8, 6, 0, 9 / 96),
    # Rows 3-5 lie in pooled rows 1-2, columns 3-5 in 1-2: 4 of 12 positions.
    PlanRow("trunk.1", "MaxPool2d", "pool", 4, 3, 0, 4 / 24),
    # An even window reads one position to the right and below: rows 0-2, columns 0-2.
    PlanRow("block", "Conv2d", "convolution", 4, 3, 1, 9 / 24),
    # Visible in both branches: rows 1-2, columns 1-2.
    PlanRow("add", "add", "residual", 4, 3, 0, 4 / 24),
    PlanRow("chunk", "chunk", "split", 4, 3, 0, 4 / 24),
    PlanRow("chunk", "chunk", "split", 4, 3, 0, 4 / 24),
    PlanRow("getitem", "getitem", "index", 4, 3, 0, 4 / 24),
    PlanRow("getitem_1", "getitem", "index", 4, 3, 0, 4 / 24),
    PlanRow("cat", "cat", "concatenate", 4, 3, 0, 4 / 24),
    PlanRow("pool", "AdaptiveAvgPool2d", "adaptive_pool", None, None, 0, None),
]


def is_close(given, expected):
    fractions = [row.visible_fraction or 0.0 for row in (given, expected)]
    same = given._replace(visible_fraction=None) == expected._replace(visible_fraction=None)
    return (
        same
        and (given.visible_fraction is None) == (expected.visible_fraction is None)
        and (abs(fractions[0] - fractions[1]) < 1e-6)
    )


def test_the_plan_is_the_one_worked_out_by_hand():
    plan = LayerMasking(Tiny()).plan(torch.zeros(2, 1, 8, 6), corner_of_one_of_two())
    differing = [
        (given, expected) for given, expected in zip(plan, EXPECTED, strict=True) if not is_close(given, expected)
    ]
    assert differing == []


def test_a_plan_prints_as_a_table():
    lines = str(LayerMasking(Tiny()).plan(torch.zeros(2, 1, 8, 6), corner_of_one_of_two())).splitlines()
    assert lines[0].split() == ["layer", "operation", "rule", "resolution", "rings", "visible"]
    assert lines[1].split() == ["conv", "Conv2d", "convolution", "8", "x", "6", "2", "9.4%"]
    assert lines[2].split() == ["trunk.0", "ReLU", "elementwise", "8", "x", "6", "9.4%"]
    assert lines[-1].split() == ["pool", "AdaptiveAvgPool2d", "adaptive_pool", "masking", "ends"]
    assert len(lines) == len(EXPECTED) + 1
    assert {line.index("8 x 6") for line in lines if "8 x 6" in line} == {lines[2].index("8 x 6")}
