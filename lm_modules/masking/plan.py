"""What layer masking does to a network, layer by layer, for a user to read."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import nn

from maskrobust.lm_modules.masking.masked import Masked
from maskrobust.lm_modules.masking.program import Step

_ROW = "{:<32} {:<22} {:<26} {:>11} {:>5} {:>8}"


class PlanRow(NamedTuple):
    """One operation on masked features.

    Attributes:
        layer: path of the module that it is, or belongs to.
        operation: class of the module, or name of the function.
        rule: name of the rule that computes it.
        height: of the result in positions; None where masking ends.
        width: likewise.
        rings: of neighbour padding ahead of it.
        visible_fraction: fraction of the result's positions that are visible, in [0, 1]; None where masking ends.
    """

    layer: str
    operation: str
    rule: str
    height: int | None
    width: int | None
    rings: int
    visible_fraction: float | None


class Plan(list[PlanRow]):
    """The rows of a network in the order of computation; printed as a table."""

    def __str__(self) -> str:
        head = _ROW.format("layer", "operation", "rule", "resolution", "rings", "visible")
        return "\n".join([head, *(self._line(row) for row in self)])

    @staticmethod
    def _line(row: PlanRow) -> str:
        ends = row.visible_fraction is None
        size = "masking ends" if ends else f"{row.height} x {row.width}"
        visible = "" if row.visible_fraction is None else f"{row.visible_fraction:.1%}"
        return _ROW.format(row.layer, row.operation, row.rule, size, row.rings or "", visible).rstrip()


def plan_rows(step: Step, network: nn.Module, result: Any) -> Iterator[PlanRow]:
    """The rows of one step: none where nothing was masked, one for each of several results otherwise.

    Args:
        step: as the program ran it.
        network: whose step it is.
        result: of the step.
    """
    if step.rule is None:
        return
    for part in result if isinstance(result, tuple) else (result,):
        operation, rule = step.operation_name(network), step.rule.apply.__name__
        if isinstance(part, Masked):
            _, _, height, width = part.visible.positions.shape
            fraction = part.visible.positions.count_nonzero().item() / part.visible.positions.numel()
            yield PlanRow(step.layer, operation, rule, height, width, part.rings, fraction)
        else:
            yield PlanRow(step.layer, operation, rule, None, None, 0, None)
