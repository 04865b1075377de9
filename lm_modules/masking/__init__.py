"""Layer masking: tensor functions < rules < `LayerMasking`."""

from maskrobust.lm_modules.masking.layer_masking import LayerMasking
from maskrobust.lm_modules.masking.masked import Masked, MergeRule, VisibleMap
from maskrobust.lm_modules.masking.rules import UnsupportedNetworkError, masking_rule

__all__ = ["LayerMasking", "Masked", "MergeRule", "UnsupportedNetworkError", "VisibleMap", "masking_rule"]
