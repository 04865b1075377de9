"""Layer masking: tensor functions < rules < `LayerMasking`."""

from maskrobust.lm_modules.masking.layer_masking import LayerMasking as LayerMasking
from maskrobust.lm_modules.masking.masked import (
    Masked as Masked,
    MergeRule as MergeRule,
    PaddingRule as PaddingRule,
    VisibleMap as VisibleMap,
)
from maskrobust.lm_modules.masking.rules.table import (
    UnsupportedNetworkError as UnsupportedNetworkError,
    masking_rule as masking_rule,
)
