"""The rule for torchvision's own function, in a module of its own: torchvision takes as long to import as torch."""

from torchvision.ops import stochastic_depth

from maskrobust.lm_modules.masking.rules.pointwise import ROW_BY_ROW, elementwise
from maskrobust.lm_modules.masking.rules.table import masking_rule


def register() -> None:
    """Enter the rule in the table."""
    masking_rule(stochastic_depth, rows=ROW_BY_ROW, is_local=True)(elementwise)
