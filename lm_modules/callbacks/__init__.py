"""Lightning callbacks."""

from lm_modules.callbacks.finite_loss import FiniteLoss
from lm_modules.callbacks.last_checkpoint import LastCheckpoint
from lm_modules.callbacks.reliance import RelianceCallback
from lm_modules.callbacks.step_seed import StepSeed

__all__ = ["FiniteLoss", "LastCheckpoint", "RelianceCallback", "StepSeed"]
