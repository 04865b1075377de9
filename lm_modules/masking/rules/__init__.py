"""The rule table and the rules in it, one file for each kind of operation."""

from maskrobust.lm_modules.masking.rules import (
    convolution,
    merging,
    normalisation,
    pointwise,
    pooling,
    resampling,
    reshaping,
)
from maskrobust.lm_modules.masking.rules.table import (
    RULES,
    RowKernel,
    Rule,
    RuleFunction,
    Target,
    UnsupportedNetworkError,
    find_rule,
    masking_rule,
)

__all__ = [
    "RULES", "RowKernel", "Rule", "RuleFunction", "Target", "UnsupportedNetworkError", "convolution", "find_rule",
    "masking_rule", "merging", "normalisation", "pointwise", "pooling", "resampling", "reshaping",
]  # fmt: skip
