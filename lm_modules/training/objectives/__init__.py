"""Training objectives, each in its own file: a loss on logits, and the training step that asks a network for them."""

from maskrobust.augment.registry import import_modules
from maskrobust.lm_modules.training.objectives.registry import OBJECTIVES as OBJECTIVES, objective as objective

import_modules(__name__)
