"""The rule table and the rules in it, one file for each kind of operation."""

from maskrobust.lm_modules.masking.rules import (
    convolution as convolution,
    merging as merging,
    normalisation as normalisation,
    pointwise as pointwise,
    pooling as pooling,
    reshaping as reshaping,
)
