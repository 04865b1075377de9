"""The rule table and the rules in it, one file for each kind of operation."""

from maskrobust.lm_modules.masking.rules import (
    convolution as convolution,
    merging as merging,
    normalisation as normalisation,
    pointwise as pointwise,
    pooling as pooling,
    resampling as resampling,
    reshaping as reshaping,
)
from maskrobust.lm_modules.masking.rules.table import (
    RULES as RULES,
    RowKernel as RowKernel,
    Rule as Rule,
    RuleFunction as RuleFunction,
    Target as Target,
    UnsupportedNetworkError as UnsupportedNetworkError,
    find_rule as find_rule,
    masking_rule as masking_rule,
)
