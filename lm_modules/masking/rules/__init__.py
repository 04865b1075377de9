"""The rules of layer masking, one file for each kind of operation."""

from maskrobust.lm_modules.masking.rules import (
    convolution as convolution,
    merging as merging,
    normalisation as normalisation,
    pointwise as pointwise,
    pooling as pooling,
    reshaping as reshaping,
)
