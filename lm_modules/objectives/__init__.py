"""Training objectives, each in its own file: a loss on logits, and the training step that asks a network for them."""

from typing import Literal

from maskrobust.lm_modules.objectives.abstention import abstention_loss, abstention_step
from maskrobust.lm_modules.objectives.consistency import consistency_loss, consistency_step
from maskrobust.lm_modules.objectives.cross_entropy import cross_entropy_step, mixed_cross_entropy
from maskrobust.lm_modules.objectives.distillation import distillation_loss, distillation_step
from maskrobust.lm_modules.objectives.worst_of import worst_presented

Objective = Literal["cross_entropy", "consistency", "abstention", "distillation"]

__all__ = [
    "Objective",
    "abstention_loss",
    "abstention_step",
    "consistency_loss",
    "consistency_step",
    "cross_entropy_step",
    "distillation_loss",
    "distillation_step",
    "mixed_cross_entropy",
    "worst_presented",
]
