"""Lightning callbacks."""

from maskrobust.lm_modules.callbacks.explanation_panel import ExplanationPanel
from maskrobust.lm_modules.callbacks.finite_loss import FiniteLoss
from maskrobust.lm_modules.callbacks.last_checkpoint import LastCheckpoint
from maskrobust.lm_modules.callbacks.reliance import RelianceCallback
from maskrobust.lm_modules.callbacks.shown_images import ShownImages
from maskrobust.lm_modules.callbacks.step_seed import StepSeed
from maskrobust.lm_modules.callbacks.throughput import Throughput

__all__ = [
    "ExplanationPanel",
    "FiniteLoss",
    "LastCheckpoint",
    "RelianceCallback",
    "ShownImages",
    "StepSeed",
    "Throughput",
]
