"""Training objectives, each in its own file: a loss on logits, and the training step that asks a network for them."""

import importlib
import pkgutil

from maskrobust.lm_modules.training.objectives.registry import OBJECTIVES as OBJECTIVES, objective as objective

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
