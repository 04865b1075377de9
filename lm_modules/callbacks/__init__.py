"""Lightning callbacks."""

from maskrobust.lm_modules.callbacks.explanation_panel import ExplanationPanel as ExplanationPanel
from maskrobust.lm_modules.callbacks.finite_loss import FiniteLoss as FiniteLoss
from maskrobust.lm_modules.callbacks.last_checkpoint import LastCheckpoint as LastCheckpoint
from maskrobust.lm_modules.callbacks.reliance import RelianceCallback as RelianceCallback
from maskrobust.lm_modules.callbacks.shown_images import ShownImages as ShownImages
from maskrobust.lm_modules.callbacks.step_seed import StepSeed as StepSeed
from maskrobust.lm_modules.callbacks.throughput import Throughput as Throughput
