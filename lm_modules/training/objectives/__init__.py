"""Training objectives, each in its own file: a loss on logits, and the training step that asks a network for them."""

from typing import Literal

from maskrobust.lm_modules.training.objectives.abstention import (
    abstention_loss as abstention_loss,
    abstention_step as abstention_step,
)
from maskrobust.lm_modules.training.objectives.consistency import (
    consistency_loss as consistency_loss,
    consistency_step as consistency_step,
)
from maskrobust.lm_modules.training.objectives.cross_entropy import (
    cross_entropy_step as cross_entropy_step,
    mixed_cross_entropy as mixed_cross_entropy,
)
from maskrobust.lm_modules.training.objectives.distillation import (
    distillation_loss as distillation_loss,
    distillation_step as distillation_step,
)
from maskrobust.lm_modules.training.objectives.worst_of import worst_presented as worst_presented

Objective = Literal["cross_entropy", "consistency", "abstention", "distillation"]
