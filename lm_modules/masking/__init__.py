"""Layer masking: run a CNN on the visible pixels of an image only."""

from maskrobust.lm_modules.masking import rules as rules
from maskrobust.lm_modules.masking.layer_masking import LayerMasking as LayerMasking
from maskrobust.lm_modules.masking.masked import Masked as Masked
from maskrobust.lm_modules.masking.table import (
    UnsupportedNetworkError as UnsupportedNetworkError,
    masking_rule as masking_rule,
)
from maskrobust.lm_modules.masking.visible_map import (
    MergeRule as MergeRule,
    PaddingRule as PaddingRule,
    PartialPatches as PartialPatches,
    VisibleMap as VisibleMap,
    Window as Window,
)
